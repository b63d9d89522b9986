"""Files whose container misleads: order, streams, clocks, pixels that are not square, side data."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from numbered_videos import CLOSED, FRAMES, check_every_frame, copy_packets, number, picture, write
from PIL import Image

from modeling_siasamrea.processors import frame_index as frame_index_module
from modeling_siasamrea.processors.frame_index import frame_index
from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames, span_of


def everything(metadata) -> np.ndarray:
    return np.arange(metadata.total_num_frames)


def numbers(path: Path, *span: float) -> list[int]:
    return [number(frame) for frame in decode_frames(path, everything, *span)[0]]


def times_of_decoding(keys: int, packet: av.Packet) -> bool:
    """Takes away when pictures are shown, as tools do that copy raw streams and AVIs into other containers."""
    packet.pts = packet.dts = packet.dts + round(Fraction(3, 25) / packet.time_base)
    return True


@pytest.mark.parametrize(
    ("kind", "container"),
    [
        *[
            (kind, container)
            for kind in ("h264_closed", "hevc_default", "mpeg2_b")
            for container in ("mp4", "mkv", "ts")
        ],
        *[("h264_open", "mov"), ("mpeg4_b", "mp4"), ("mpeg4_b", "mkv")],
    ],
)
def test_pictures_that_a_container_gives_the_times_of_others_come_in_order(numbered, tmp_path, kind, container):
    path = copy_packets(numbered(kind, "mp4"), tmp_path / f"copy.{container}", times_of_decoding)
    shown = numbers(path)
    assert shown == sorted(set(shown)) and len(shown) >= FRAMES - 4  # an edit list may discard what is before time 0
    _, metadata = decode_frames(path, everything)
    assert (np.diff(metadata.times) >= 0).all() and metadata.intact
    for index in (0, 1, 2, 31, 32, 33):
        assert number(decode_frames(path, [index])[0][0]) == shown[index]


@pytest.mark.parametrize(("late", "decoded", "places"), [(20, 250, 8), (30, 24, 4)])
def test_a_wrong_order_that_begins_late_is_noticed(tmp_path, monkeypatch, late, decoded, places):
    monkeypatch.setattr(frame_index_module, "CHECKED_FRAMES", decoded)
    monkeypatch.setattr(frame_index_module, "CHECKED_PLACES", places)
    with av.open(str(tmp_path / "whole.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "bframes=2:b-adapt=0:keyint=15"})
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            if index < late:  # no B-pictures lie between pictures that are all coded by themselves
                frame.pict_type = PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shown = numbers(copy_packets(tmp_path / "whole.mp4", tmp_path / "copy.mkv", times_of_decoding))
    assert shown == list(range(FRAMES))


def test_a_decoder_that_declares_reordering_and_does_none_is_read_by_the_index(tmp_path):
    path = write(tmp_path / "v.mkv", "mpeg4", max_b_frames=0, gop_size=12, flags=0)
    assert len(frame_index("v", str(path)).pts)
    check_every_frame(path, FRAMES)


def add_stream(container: av.container.OutputContainer, codec: str, pictures: range, **settings) -> Callable[[], None]:
    """Adds a video stream; gives the function that writes it, since all streams come first."""
    options, size = settings.pop("options", {}), settings.pop("size", (96, 48))
    start = settings.pop("start", 0)
    stream = container.add_stream(codec, rate=25, options=options)
    (stream.width, stream.height), stream.pix_fmt = size, settings.pop("pix_fmt", "yuv420p")
    for name, value in settings.items():
        setattr(stream if name == "disposition" else stream.codec_context, name, value)

    def encode() -> None:
        for place, index in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture(index, *size[::-1]), format="rgb24")
            frame.pts, frame.time_base = round((place / 25 + start) * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    return encode


def add_sound(container: av.container.OutputContainer, seconds: float, start: float = 0.0) -> Callable[[], None]:
    stream = container.add_stream("aac", rate=16000, layout="mono")

    def encode() -> None:
        for place in range(0, round(seconds * 16000), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, round(start * 16000) + place, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    return encode


def test_the_best_video_stream_is_read_and_not_the_first(tmp_path):
    for name, first in (
        ("cover.mp4", {"codec": "mjpeg", "pictures": range(7, 8), "pix_fmt": "yuvj420p"}),
        ("small.mkv", {"codec": "libx264", "pictures": range(40, 50), "size": (48, 24)}),
    ):
        with av.open(str(tmp_path / name), "w") as container:
            writers = [
                add_stream(container, disposition=av.stream.Disposition(0), **first),
                add_stream(container, "libx264", range(20), disposition=av.stream.Disposition.default),
            ]
            for encode in writers:
                encode()
        assert numbers(tmp_path / name) == list(range(20))


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_seconds_are_those_of_a_player(tmp_path, container):
    """Sound from 0 to 4 s, pictures from 1 to 2.6 s."""
    path = tmp_path / f"late.{container}"
    with av.open(str(path), "w") as file:
        pictures, sound = add_stream(file, "libx264", range(40), start=1.0, options=CLOSED), add_sound(file, 4.0)
        sound()
        pictures()
    _, metadata = decode_frames(path, [0])
    assert metadata.times[0] == pytest.approx(1.0, abs=0.07) and metadata.video_end == pytest.approx(4.0, abs=0.1)
    assert metadata.duration == pytest.approx(1.6, abs=0.05) and metadata.fps == pytest.approx(25, abs=0.5)
    at = float(metadata.times[25])
    assert numbers(path, at, at + 0.2) == list(range(25, 30))
    assert numbers(path, 0.2, 0.4) == [0] and numbers(path, 3.0, 3.5) == [39]  # the picture that is on screen
    assert span_of(path, 3.0, 3.5)[1].duration == pytest.approx(0.5)
    with pytest.raises(VideoDecodingError, match="starts at 4.5 s, but the video is 4"):
        decode_frames(path, [0], start=4.5)


@pytest.mark.parametrize(("jump", "container"), [(-0.5, "ts"), (-1.0, "mkv"), (1000.0, "ts")])
def test_a_clock_that_begins_anew_on_the_way(numbered, tmp_path, jump, container):
    moved = set()

    def change(keys: int, packet: av.Packet) -> bool:
        if keys >= 3:
            moved.add(packet.pts)
            packet.pts += round(jump / packet.time_base)
            packet.dts += round(jump / packet.time_base)
        return True

    whole = copy_packets(numbered("h264_closed", "mp4"), tmp_path / f"whole.{container}")
    path = rewrite_times(whole, tmp_path / f"jump.{container}", change)
    frames, metadata = decode_frames(path, everything)
    assert [number(frame) for frame in frames] == list(range(FRAMES)) and moved
    np.testing.assert_allclose(metadata.times, np.arange(FRAMES) / 25, atol=0.002)
    assert metadata.fps == pytest.approx(25, abs=0.1)
    assert number(decode_frames(path, [0], start=2.0)[0][0]) == 50


def rewrite_times(source: Path, target: Path, change: Callable[[int, av.Packet], bool]) -> Path:
    """Writes two files, as a muxer takes no clock that goes back, and joins them where containers can be joined."""
    parts = []
    for name, second in (("first", False), ("second", True)):
        part = target.with_name(f"{name}{target.suffix}")
        copy_packets(source, part, lambda keys, packet, second=second: (keys >= 3) == second and change(keys, packet))
        parts.append(part.read_bytes())
    target.write_bytes(b"".join(parts))
    return target


@pytest.mark.parametrize(
    ("codec", "container", "aspect", "height", "width"),
    [
        ("libx264", "mp4", Fraction(4, 3), 48, 128),
        ("libx264", "mkv", Fraction(2, 1), 48, 192),
        ("mpeg2video", "mpg", Fraction(8, 9), 54, 96),
        ("mpeg4", "avi", Fraction(1, 2), 96, 96),
        ("libx264", "mp4", Fraction(1, 500), 48, 96),  # not believed
    ],
)
def test_pixels_that_are_not_square_are_shown_as_players_do(tmp_path, codec, container, aspect, height, width):
    path = write(tmp_path / f"v.{container}", codec, sample_aspect_ratio=aspect, max_b_frames=0)
    frames, _ = decode_frames(path, [3, 40])
    assert frames.shape[2:] == (height, width) and [number(frame) for frame in frames] == [3, 40]
    if container == "mp4":
        turned = copy_packets(path, tmp_path / "turned.mp4", rotation={"degrees": 90})
        assert decode_frames(turned, [0])[0].shape[2:] == (width, height)


@pytest.mark.parametrize(("orientation", "rows"), [(1, 48), (6, 96), (3, 48), (8, 96)])
def test_a_photograph_with_exif_is_one_frame_and_upright(tmp_path, orientation, rows):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "camera"
    turn = {1: 0, 6: 1, 3: 2, 8: 3}[orientation]  # quarters, counterclockwise, from the shown to the stored picture
    stored = np.rot90(picture(37), turn)
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    frames, metadata = decode_frames(tmp_path / "photo.jpg", [0])
    assert metadata.total_num_frames == 1 and frames.shape[2:] == (48, 96) and number(frames[0]) == 37


def test_whatever_a_decoder_raises_is_an_error_of_the_file(numbered, monkeypatch):
    path = numbered("h264_closed", "mp4")

    def raising(*args):
        raise KeyError("side data")

    frame_index_module._remembered.clear()
    monkeypatch.setattr(frame_index_module, "_display_matrix", raising)
    with pytest.raises(VideoDecodingError, match="KeyError"):
        decode_frames(path, [0])


def test_an_animated_webp_is_not_supported(tmp_path):
    pictures = [Image.fromarray(picture(index)) for index in range(5)]
    pictures[0].save(tmp_path / "v.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(VideoDecodingError, match="animated WebP is not supported"):
        decode_frames(tmp_path / "v.webp", [0])


def test_a_small_file_with_huge_frames_is_refused(tmp_path):
    head = b"GIF89a" + (20000).to_bytes(2, "little") * 2 + b"\x80\x00\x00" + bytes(6)
    block = b"," + bytes(4) + (20000).to_bytes(2, "little") * 2 + b"\x00\x02\x02\x4c\x01\x00;"
    (tmp_path / "bomb.gif").write_bytes(head + block)
    with pytest.raises(VideoDecodingError, match="bomb.gif"):
        decode_frames(tmp_path / "bomb.gif", [0])
