"""Files that are damaged, absurd or no videos at all: a sentence, or what can be decoded, the same each time."""

import struct
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from numbered_videos import CLOSED, FRAMES, decoded_from_the_start, number, picture, write

from modeling_siasamrea.processors import frame_index as frame_index_module
from modeling_siasamrea.processors import video_decoding
from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames


@pytest.mark.parametrize(
    ("box", "offset"),
    [
        ("stts", 8),
        ("stts", 12),
        ("stts", 16),
        ("ctts", 8),
        ("stsz", 8),
        ("stsz", 12),
        ("stsc", 8),
        ("stco", 8),
        ("mdhd", 16),
    ],
)
def test_absurd_header_values(tmp_path, box, offset):
    data = bytearray(write(tmp_path / "video.mp4", "libx264", CLOSED).read_bytes())
    place = data.index(box.encode()) + offset
    data[place : place + 4] = struct.pack(">I", 0x7FFFFFFF)
    (tmp_path / "absurd.mp4").write_bytes(data)
    try:
        frames, metadata = decode_frames(tmp_path / "absurd.mp4", lambda all_of: [0, all_of.total_num_frames - 1])
    except VideoDecodingError as error:
        assert "absurd.mp4" in str(error)
    else:
        reference = decoded_from_the_start(tmp_path / "absurd.mp4")
        assert metadata.total_num_frames == len(reference)
        np.testing.assert_array_equal(frames[1].permute(1, 2, 0).numpy(), reference[-1])


def test_tables_that_point_again_and_again_to_the_same_bytes_end(tmp_path, monkeypatch):
    path = write(tmp_path / "video.mp4", "libx264", CLOSED)
    monkeypatch.setattr(frame_index_module, "MAX_PACKETS", 50)
    with pytest.raises(VideoDecodingError, match="more frames than it can hold"):
        decode_frames(path, [0])
    monkeypatch.setattr(frame_index_module, "MAX_PIXELS", 1000)
    with pytest.raises(VideoDecodingError, match="96 x 48 pixels are too large"):
        decode_frames(path, [0])


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "mp4"), ("libx265", "mkv"), ("mpeg4", "avi"), ("libvpx-vp9", "webm")]
)
def test_damaged_files_give_the_same_each_time(tmp_path, codec, container):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else CLOSED
    data = write(tmp_path / f"video.{container}", codec, options).read_bytes()
    generator = np.random.default_rng(0)
    readable = 0
    for trial in range(8):
        damaged = bytearray(data)
        for place in generator.integers(len(data) // 8, len(data) * 7 // 8, 6):
            damaged[place] = generator.integers(256)
        path = tmp_path / f"damaged{trial}.{container}"
        path.write_bytes(damaged)
        results = []
        for _ in range(2):
            frame_index_module._remembered.clear()
            try:
                results.append(decode_frames(path, lambda all_of: np.arange(0, all_of.total_num_frames, 7)))
            except VideoDecodingError as error:
                results.append(str(error))
        if isinstance(results[0], str):
            assert results[0] == results[1]
        else:
            readable += 1
            assert torch.equal(results[0][0], results[1][0])
    assert readable


@pytest.mark.parametrize(
    ("kind", "container", "trials"),
    [
        *[("hevc_default", "mkv", [0, 2, 4]), ("vp8", "webm", [0, 2, 4]), ("mjpeg", "avi", [0, 2, 4])],
        ("mpeg2_b", "ts", [1, 16]),
    ],
)
def test_frames_that_are_called_intact_depend_on_nothing_else(
    numbered, tmp_path, monkeypatch, kind, container, trials
):
    """Neither on the decoder's threads nor on what else is asked for, however a file is damaged."""
    data = numbered(kind, container).read_bytes()
    generator = np.random.default_rng(1)
    noticed, compared = 0, 0
    for trial in range(max(trials) + 1):
        damaged = bytearray(data)
        for place in generator.integers(len(data) // 8, len(data) * 7 // 8, 4):
            damaged[place] = generator.integers(256)
        if trial not in trials:
            continue
        path = tmp_path / f"damaged{trial}.{container}"
        path.write_bytes(damaged)
        monkeypatch.setattr(video_decoding, "_decoder_threads", lambda: 1)
        everything, all_of = decode_frames(path, lambda all_of: np.arange(all_of.total_num_frames))
        noticed += not all_of.intact
        monkeypatch.setattr(video_decoding, "_decoder_threads", lambda: 0)
        for index in range(0, len(everything), 5):
            try:
                frames, metadata = decode_frames(path, [index])
                others, other_metadata = decode_frames(path, [max(0, index - 5), index])
            except VideoDecodingError:
                continue
            if metadata.intact and (all_of.intact or other_metadata.intact):
                compared += 1
                assert torch.equal(frames[0], (others[-1] if other_metadata.intact else everything[index]))
                assert not all_of.intact or torch.equal(frames[0], everything[index])
    assert compared and (noticed or kind == "vp8")


def test_damage_in_a_picture_that_is_shown_after_those_made_of_it_is_noticed(numbered, tmp_path):
    data = numbered("h264_closed", "mp4").read_bytes()
    index = frame_index_module.frame_index("video", str(numbered("h264_closed", "mp4")))
    with av.open(str(numbered("h264_closed", "mp4"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    made_of = [(one, other) for one, other in pairwise(packets) if one.pts > other.pts and one.size > 30]
    assert len(made_of) > 5
    for reference, made in made_of:
        damaged = bytearray(data)
        end = reference.pos + reference.size
        damaged[end - reference.size // 3 : end] = bytes(reference.size // 3)
        (tmp_path / "damaged.mp4").write_bytes(damaged)
        frame_index_module._remembered.clear()
        _, metadata = decode_frames(tmp_path / "damaged.mp4", np.flatnonzero(index.pts == made.pts))
        assert not metadata.intact


def test_a_lost_frame_leaves_the_one_before_on_the_screen(tmp_path):
    data = bytearray(write(tmp_path / "video.avi", "mjpeg", pix_fmt="yuvj420p").read_bytes())
    places = [i for i in range(len(data)) if data[i : i + 4] == b"00dc" and data[i + 8 : i + 10] == b"\xff\xd8"]
    data[places[40] + 8 : places[41]] = bytes(places[41] - places[40] - 8)
    (tmp_path / "lost.avi").write_bytes(data)
    frames, metadata = decode_frames(tmp_path / "lost.avi", [39, 40, 41])
    assert metadata.total_num_frames == 60 and [number(frame) for frame in frames] == [39, 39, 41]
    with pytest.raises(VideoDecodingError, match="most of the frames asked for cannot be decoded"):
        decode_frames(tmp_path / "lost.avi", [40])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{video}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {video}\n"),
        ("session.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("drawing.svg", '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{video}"/></svg>'),
        ("words.txt", "Text is drawn by some decoders.\n" * 50),
    ],
)
def test_what_names_other_files_or_is_drawn_is_no_video(tmp_path, name, text):
    video = write(tmp_path / "video.ts", "libx264", CLOSED)
    (tmp_path / name).write_text(text.format(video=video))
    with pytest.raises(VideoDecodingError, match="no video"):
        decode_frames(tmp_path / name, [0])


def test_a_name_is_no_pattern_of_names(tmp_path):
    write(tmp_path / "video.gif", "gif", pix_fmt="rgb8").rename(tmp_path / "50%d.gif")
    assert decode_frames(tmp_path / "50%d.gif", [59])[1].total_num_frames == FRAMES


def test_a_cover_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(5), format="rgb24")))
        container.mux(cover.encode())
    with pytest.raises(VideoDecodingError, match="no video stream, but a cover picture"):
        decode_frames(tmp_path / "song.mp4", [0])
