"""The frames that a player shows, of files of every kind, against a decode from the start; spans by their times."""

import importlib.util
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType

import av
import numpy as np
import pytest
import torch
from numbered_videos import (
    CLOSED,
    FRAMES,
    check_every_frame,
    copy_packets,
    decoded_from_the_start,
    number,
    picture,
    write,
)
from PIL import Image

from modeling_siasamrea.processors import frame_index as frame_index_module
from modeling_siasamrea.processors import video_decoding
from modeling_siasamrea.processors.frame_index import frame_index, open_video, read_packets
from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames


KINDS = {
    "h264_closed": "mp4 ts avi flv 3gp h264",
    "h264_open": "mp4 ts mkv mov",
    "h264_intra_refresh": "mp4 ts",
    "hevc_default": "mp4 mkv ts",
    "hevc_closed": "mp4 mkv ts",
    "mpeg4_b": "mp4 mkv avi",
    "mpeg4": "mp4 mkv avi",
    "mpeg2_b": "mp4 mkv mpg ts",
    "vp8": "webm",
    "vp9": "webm mp4",
    "mjpeg": "avi mov",
    "wmv": "wmv",
    "gif": "gif",
}
FILES = [(kind, container) for kind, containers in KINDS.items() for container in containers.split()]


@pytest.mark.parametrize(("kind", "container"), FILES)
def test_every_kind_of_file_gives_what_a_player_shows(numbered, kind, container):
    path = numbered(kind, container)
    check_every_frame(path, FRAMES)
    frames, metadata = decode_frames(path, np.arange(FRAMES))
    assert [number(frame) for frame in frames] == list(range(FRAMES))
    assert metadata.fps == pytest.approx(25, abs=0.1) and metadata.duration == pytest.approx(2.4, abs=0.02)
    np.testing.assert_allclose(metadata.times, np.arange(FRAMES) / 25, atol=1e-3)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("kind", ["h264_closed", "h264_open", "hevc_default", "mpeg4_b", "mpeg2_b"])
def test_a_cut_without_encoding_shows_what_can_be_decoded(numbered, tmp_path, kind, container):
    cut = copy_packets(numbered(kind, container), tmp_path / f"cut.{container}", lambda keys, packet: keys >= 3)
    shown = len(decoded_from_the_start(cut))
    assert 20 <= shown < FRAMES
    check_every_frame(cut, shown)
    frames, metadata = decode_frames(cut, np.arange(shown))
    assert [number(frame) for frame in frames] == list(range(FRAMES - shown, FRAMES)) and metadata.times[0] == 0


def test_frames_discarded_by_an_edit_list_are_not_counted(tmp_path):
    data = write(tmp_path / "whole.mp4", "libx264", CLOSED | {"bf": "0"}).read_bytes()
    edit = data.index(b"elst") + 4
    unit = 25 * 512  # the ticks of a second
    patched = bytearray(data)
    patched[edit + 12 : edit + 16] = struct.pack(">i", 20 * unit // 25)  # the shown part starts at frame 20
    (tmp_path / "edited.mp4").write_bytes(patched)
    check_every_frame(tmp_path / "edited.mp4", 40)
    frames, metadata = decode_frames(tmp_path / "edited.mp4", [0, 39])
    assert [number(frame) for frame in frames] == [20, 59] and metadata.times[1] == pytest.approx(1 / 25)


def test_the_content_says_what_a_file_is_and_not_its_name(numbered, tmp_path):
    shutil.copy(numbered("mpeg4_b", "avi"), tmp_path / "video.mp4")
    check_every_frame(tmp_path / "video.mp4", FRAMES)


VARIABLE = [40 * i for i in range(30)] + [1200 + 200 * i for i in range(30)]  # 25 frames a second, then 5


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mp4"), ("libx264", "mkv"), ("libvpx-vp9", "webm")])
def test_a_span_is_a_span_of_time_whatever_the_rate(tmp_path, codec, container):
    path = write(tmp_path / f"video.{container}", codec, CLOSED, times=VARIABLE)
    check_every_frame(path, FRAMES)
    for start, end, first, last in ((0.4, 0.8, 10, 19), (1.0, 2.0, 25, 33), (6.0, None, 54, 59), (1.61, 1.7, 32, 32)):
        frames, metadata = decode_frames(path, lambda span: np.arange(span.total_num_frames), start, end)
        assert [number(frame) for frame in frames] == list(range(first, last + 1))
        assert metadata.timestamps == pytest.approx([VARIABLE[i] / 1000 for i in range(first, last + 1)])
    _, whole = decode_frames(path, [0])
    assert whole.duration == pytest.approx(7.2, abs=0.2) and whole.fps == pytest.approx(60 / whole.duration)


@pytest.mark.parametrize(
    ("rate", "container"),
    [
        (1, "mkv"),
        (Fraction(1, 3), "mp4"),
        (Fraction(24000, 1001), "mkv"),
        (Fraction(30000, 1001), "mp4"),
        (120, "mkv"),
    ],
)
def test_rates(tmp_path, rate, container):
    path = write(tmp_path / f"video.{container}", "libx264", CLOSED, rate=rate)
    check_every_frame(path, FRAMES)
    _, metadata = decode_frames(path, [0])
    assert metadata.fps == pytest.approx(float(rate), rel=2e-3)
    for index in (7, 30):  # a time in seconds finds its frame, though containers round it
        frames, _ = decode_frames(path, [0], start=float(index / Fraction(rate)))
        assert number(frames[0]) == index


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_times_count_from_the_first_frame(tmp_path, container):
    path = write(tmp_path / f"late.{container}", "libx264", CLOSED, times=[3000 + 40 * i for i in range(FRAMES)])
    check_every_frame(path, FRAMES)
    frames, metadata = decode_frames(path, [0], start=1.0, end=2.0)
    assert number(frames[0]) == 25 and metadata.total_num_frames == 25
    assert metadata.timestamps == pytest.approx([1.0])


ROTATIONS = [{"degrees": degrees, "hflip": hflip} for degrees in (0, 90, 180, 270) for hflip in (False, True)]


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_frames_are_turned_as_the_file_says(numbered, tmp_path, rotation):
    upright = numbered("h264_closed", "mp4")
    path = copy_packets(upright, tmp_path / "turned.mp4", rotation=rotation)
    frames, _ = decode_frames(path, [7, 40])
    expected = torch.rot90(decode_frames(upright, [7, 40])[0], rotation["degrees"] // 90, (2, 3))
    assert torch.equal(frames, expected.flip(3) if rotation["hflip"] else expected)


def test_a_size_that_changes_midway_is_read_at_the_first(tmp_path):
    parts = []
    for name, size in (("small", (96, 48)), ("large", (192, 96))):
        with av.open(str(tmp_path / f"{name}.ts"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options=CLOSED)
            (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
            for index in range(30):
                image = picture(index, *size[::-1])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        parts.append((tmp_path / f"{name}.ts").read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    frames, metadata = decode_frames(tmp_path / "both.ts", [3, 40])
    assert frames.shape == (2, 3, 48, 96) and metadata.total_num_frames == 60
    assert number(frames[0]) == 3


def test_references_that_are_not_shown_are_no_frames(numbered, tmp_path):
    """A VP8 packet without the bit `show_frame`, as an encoder's alternate references are."""

    def hide(keys: int, packet: av.Packet) -> bool:
        if packet.pts == 400:  # milliseconds
            data = bytearray(bytes(packet))
            data[0] &= ~0x10
            packet.update(bytes(data))
        return True

    hidden = copy_packets(numbered("vp8", "webm"), tmp_path / "hidden.webm", hide)
    check_every_frame(hidden, FRAMES - 1)


@pytest.fixture
def decoded(monkeypatch):
    """The frames that a decoder gave, at any place."""
    frames, decode_packets = [], video_decoding.decode_packets

    def counting(stream, packets):
        for frame in decode_packets(stream, packets):
            frames.append(frame)
            yield frame

    monkeypatch.setattr(video_decoding, "decode_packets", counting)
    return frames


def test_a_span_at_the_end_does_not_decode_the_whole(numbered, decoded):
    frames, _ = decode_frames(numbered("h264_closed", "mp4"), [0, 3], start=2.0)
    assert [number(frame) for frame in frames] == [50, 53] and len(decoded) <= 15


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize(("pyramid", "most"), [(False, 19), (True, 34)])
def test_pictures_that_none_refers_to_are_left_out(tmp_path, decoded, monkeypatch, threads, codec, pyramid, most):
    """Of three B-pictures in a row none, or only the middle one, is a reference: 15 or 30 of 60 pictures are."""
    monkeypatch.setattr(video_decoding, "_decoder_threads", lambda: threads)
    groups = "keyint=60:bframes=3:b-adapt=0:scenecut=0"
    if codec == "h264":
        options = {"x264-params": f"{groups}:b-pyramid={'normal' if pyramid else 'none'}"}
    else:
        options = {"x265-params": f"{groups}:b-pyramid={int(pyramid)}:log-level=none"}
    path = write(tmp_path / "video.mp4", {"h264": "libx264", "hevc": "libx265"}[codec], options)
    reference = decoded_from_the_start(path)
    for index in (59, 58, 57, 56, 55):
        decoded.clear()
        frames, metadata = decode_frames(path, [index])
        np.testing.assert_array_equal(frames[0].permute(1, 2, 0).numpy(), reference[index])
        assert len(decoded) <= most and metadata.intact


@pytest.mark.parametrize("kind", ["h264_closed.mp4", "h264_open.mov", "h264_closed.mkv", "h264_open.ts", "vp9.webm"])
def test_seeking_ends_at_the_key_frame_and_not_in_the_group_before(numbered, kind):
    path = str(numbered(*kind.split(".")))
    entries = frame_index(path, path).entries.tolist()
    with open_video(path, path, threads=1) as (container, stream):
        for pts, time in entries[1:]:
            container.seek(time, stream=stream)
            assert next(packet.pts for packet in read_packets(container, stream) if packet.is_keyframe) == pts
    assert len(entries) > 3


def test_a_seek_that_ends_behind_the_key_frame_is_done_again(numbered):
    for index in range(0, FRAMES, 3):
        frames, metadata = decode_frames(numbered("mpeg2_b", "mpg"), [index])
        assert number(frames[0]) == index and metadata.intact


def test_packets_are_read_once_for_many_calls(tmp_path, monkeypatch):
    path = write(tmp_path / "video.mp4", "libx264", CLOSED)
    first = frame_index(str(path), str(path))
    assert frame_index(str(path), str(path)) is first
    write(path, "libx264", CLOSED, rate=5)
    assert frame_index(str(path), str(path)).fps == 5
    monkeypatch.setattr(frame_index_module, "CACHED_FRAMES", 100)
    write(tmp_path / "other.mp4", "libx264", CLOSED)
    frame_index("other", str(tmp_path / "other.mp4"))
    assert len(frame_index_module._remembered) == 1


@pytest.mark.parametrize("kind", ["h264_closed", "mpeg2_b"])
def test_a_stream_that_begins_anywhere_is_read_by_its_index(numbered, tmp_path, kind):
    data = numbered(kind, "ts").read_bytes()
    (tmp_path / "begins.ts").write_bytes(data[len(data) // 3 :])  # not even at the start of a packet
    index = frame_index("begins", str(tmp_path / "begins.ts"))
    assert len(index.pts) and 20 <= len(index.times) < 50
    check_every_frame(tmp_path / "begins.ts", len(index.times))
    frames, _ = decode_frames(tmp_path / "begins.ts", np.arange(len(index.times)))
    assert [number(frame) for frame in frames] == list(range(FRAMES - len(index.times), FRAMES))


def test_frames_of_one_time_are_told_apart_by_decoding(tmp_path):
    """Matroska rounds times to milliseconds, here of four frames each."""
    path = write(tmp_path / "video.mkv", "libx264", CLOSED, rate=4000)
    check_every_frame(path, FRAMES)
    frames, metadata = decode_frames(path, np.arange(FRAMES))
    assert [number(frame) for frame in frames] == list(range(FRAMES))
    assert (np.diff(metadata.times) >= 0).all() and metadata.duration > metadata.times[-1]


def test_times_of_an_avi_with_reordered_frames(tmp_path):
    """Its packets' times are those of the frames, in order; the rate that it declares may be that of empty packets."""
    path = write(tmp_path / "video.avi", "libx264", CLOSED, times=[40 * i for i in range(FRAMES)])
    check_every_frame(path, FRAMES)
    frames, metadata = decode_frames(path, [0], start=1.0)
    assert number(frames[0]) in (24, 25, 26) and metadata.times[0] == pytest.approx(1.0, abs=0.05)


def test_key_frames_that_are_none(tmp_path):
    """An AVI whose table calls every frame a key frame."""
    data = bytearray(write(tmp_path / "video.avi", "wmv2", gop_size=12).read_bytes())
    place = data.rindex(b"idx1") + 8
    while data[place : place + 4] == b"00dc":
        data[place + 4] |= 0x10
        place += 16
    (tmp_path / "all_keys.avi").write_bytes(data)
    assert frame_index("all", str(tmp_path / "all_keys.avi")).entry[-1] == FRAMES - 1
    check_every_frame(tmp_path / "all_keys.avi", FRAMES)


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "dash+frag_every_frame"])
def test_fragments(numbered, tmp_path, flags):
    with (
        av.open(str(numbered("h264_closed", "mp4"))) as source,
        av.open(str(tmp_path / "f.mp4"), "w", options={"movflags": flags}) as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    check_every_frame(tmp_path / "f.mp4", FRAMES)


@pytest.mark.parametrize("disposal", [1, 2, 3])
def test_gifs_are_drawn_over_what_was_there(tmp_path, disposal):
    pictures = []
    for index in range(20):
        rgba = np.dstack([picture(index), np.full((48, 96), 255, dtype=np.uint8)])
        rgba[30:, : 40 if index % 3 else 0, 3] = 0
        pictures.append(Image.fromarray(rgba))
    save = {"save_all": True, "append_images": pictures[1:], "duration": [50, 300] * 10, "disposal": disposal}
    pictures[0].save(tmp_path / "video.gif", **save)
    reference = decoded_from_the_start(tmp_path / "video.gif")
    check_every_frame(tmp_path / "video.gif", len(reference))
    apng = write(tmp_path / "video.apng", "apng", pix_fmt="rgb24")
    check_every_frame(apng, FRAMES)


RIGHT = {  # the numbers that each file's frames show
    "avi_named.mp4": range(250),
    "cut_copy.mp4": range(38, 190),
    "h264_k60.mp4": range(600),
    "h264_k60_open.mp4": range(600),
    "hevc_default600.mp4": range(600),
    "hevc_k60.mkv": range(600),
    "late.mkv": range(250),
    "mpeg4_b.mp4": range(600),
    "vfr.mp4": range(250),
    "vp9.webm": range(250),
}


@pytest.fixture(scope="session")
def numbers(shared) -> ModuleType:
    """What reads the number off a picture of the cases."""
    specification = importlib.util.spec_from_file_location("picture_numbers", shared / "cases" / "numbers.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def shown(read: Callable[[np.ndarray], int], frames: torch.Tensor) -> list[int]:
    return [read(frame.permute(1, 2, 0).numpy()) for frame in frames]


@pytest.mark.parametrize("name", RIGHT)
def test_numbered_cases(shared, numbers, name):
    indices = np.unique(np.random.default_rng(0).integers(0, len(RIGHT[name]), 20))
    frames, metadata = decode_frames(shared / "cases" / name, indices)
    assert metadata.total_num_frames == len(RIGHT[name])
    assert shown(numbers.picture_number, frames) == [RIGHT[name][index] for index in indices]


def test_spans_and_rotations_of_the_cases(shared, numbers):
    cases = shared / "cases"
    span, _ = decode_frames(cases / "vfr.mp4", lambda part: np.arange(part.total_num_frames), 2.0, 4.0)
    assert shown(numbers.picture_number, span) == list(range(50, 100))
    assert shown(numbers.picture_number, decode_frames(cases / "cut_copy.mp4", [0], start=2.0)[0]) == [88]
    for name in ("rot90.mp4", "rot_av1.mp4"):
        assert decode_frames(cases / name, [100])[0].shape == (1, 3, 192, 64)
    assert decode_frames(cases / "cut_av1.mp4", [0, 211])[1].total_num_frames == 212
    assert decode_frames(cases / "reschange.ts", [0, 119])[0].shape == (2, 3, 64, 192)


ODD = {  # the numbers that each file's frames show, height and width
    "01_exif_mjpeg.avi": (range(20), 48, 96),
    "01c_exif.png": ([3], 48, 96),
    "02_h264_raw_to_mp4.mp4": ([1, 2, *range(4, 60)], 48, 96),
    "02c_xvid_copy.mp4": (range(58), 48, 96),
    "02d_mpeg4_avi_copy.mp4": (range(60), 48, 96),
    "02e_avi_genpts.mp4": (range(60), 48, 96),
    "03_cover_track_first.mp4": (range(60), 48, 96),
    "03b_second_default.mkv": (range(60), 48, 96),
    "05_video_starts_at_2s.mp4": (range(60), 48, 96),
    "06_audio_outlasts_video.mp4": (range(60), 48, 96),
    "07_pts_goes_back.ts": ([*range(60), *range(100, 160)], 48, 96),
    "08_sar_4_3.mp4": (range(10), 48, 128),
    "08b_dar_16_9.mpg": (range(10), 54, 96),
    "08c_display_2x.mkv": (range(60), 48, 192),
}


@pytest.mark.parametrize("name", ODD)
def test_files_as_people_s_tools_write_them(shared, numbers, name):
    right, height, width = ODD[name]
    path = shared / "cases" / name
    frames, _ = decode_frames(path, lambda all_of: np.arange(all_of.total_num_frames))
    assert shown(numbers.picture_number_8, frames) == list(right) and frames.shape[2:] == (height, width)
    for index in range(0, len(right), 7):  # one by one as together
        assert torch.equal(decode_frames(path, [index])[0][0], frames[index])


def test_clocks_of_the_cases(shared, numbers):
    cases = shared / "cases"
    for name, number_at_3, first in (
        ("05_video_starts_at_2s.mp4", 25, 2.0),
        ("06_audio_outlasts_video.mp4", 59, 0.0),
        ("07_pts_goes_back.ts", 115, 0.0),
    ):
        assert shown(numbers.picture_number_8, decode_frames(cases / name, [0], start=3.0)[0]) == [number_at_3]
        _, metadata = decode_frames(cases / name, [0])
        np.testing.assert_allclose(metadata.times, first + np.arange(metadata.total_num_frames) / 25, atol=1e-6)
    with pytest.raises(VideoDecodingError, match="animated WebP is not supported"):
        decode_frames(cases / "09_animated.webp", [0])
