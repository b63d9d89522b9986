"""The fast copy of a folder: the same frames at the same indices, resumable, failures named."""

import json
import os
import signal
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from modeling_siasamrea.commands import prepare as command
from modeling_siasamrea.preparation import small_copies as prepare
from modeling_siasamrea.processors.video_decoding import decode_frames


def test_the_copy_has_the_same_frames_smaller_and_without_audio(tmp_path, write_video):
    source, target = tmp_path / "videos", tmp_path / "fast"
    write_video(source / "a" / "v.mkv", frames=40, height=96, width=128)
    assert prepare.prepare_videos(source, target, short_side=48) == []
    everything = lambda metadata: np.arange(metadata.total_num_frames)  # noqa: E731
    original, before = decode_frames(source / "a" / "v.mkv", everything)
    copy, after = decode_frames(target / "a" / "v.mp4", everything)
    assert copy.shape == (40, 3, 48, 64) and after.fps == before.fps == 8
    # Each frame's brightness says its index.
    assert (copy.float().mean((1, 2, 3)) - original.float().mean((1, 2, 3))).abs().max() < 2
    with av.open(str(target / "a" / "v.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys[0] and keys[8] and sum(keys) >= 5


def test_small_videos_are_not_enlarged_and_sizes_are_even():
    assert prepare.new_size(1280, 720, 256) == (456, 256)
    assert prepare.new_size(64, 48, 256) == (64, 48)
    assert prepare.new_size(721, 1281, 256) == (256, 454)


def test_what_is_finished_is_not_done_again_and_failures_are_named(tmp_path, write_video):
    source, target = tmp_path / "videos", tmp_path / "fast"
    write_video(source / "good.mp4")
    (source / "broken.mp4").write_bytes(b"not a video")
    (failure,) = prepare.prepare_videos(source, target)
    assert failure["video"] == "broken.mp4" and failure["error"]
    assert json.loads((target / "failures.jsonl").read_text()) == failure
    os.utime(target / "good.mp4", (1, 1))
    # An unfinished file, as a killed run leaves it, is no copy.
    (target / ".broken.mp4.part").write_bytes(b"half")
    write_video(source / "broken.mp4")
    assert prepare.prepare_videos(source, target) == []
    assert (target / "good.mp4").stat().st_mtime == 1
    assert sorted(path.name for path in target.iterdir()) == ["broken.mp4", "failures.jsonl", "good.mp4"]


def test_names_that_would_collide_are_refused(tmp_path, write_video):
    write_video(tmp_path / "v.mp4")
    write_video(tmp_path / "v.mkv")
    with pytest.raises(ValueError, match=r"would both become .*v\.mp4"):
        prepare.prepare_videos(tmp_path, tmp_path / "fast")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no videos"):
        prepare.prepare_videos(tmp_path / "empty", tmp_path / "fast")


def test_the_copy_keeps_times_and_turns_frames(tmp_path):
    source = tmp_path / "telephone.mp4"
    ticks = [500 + 40 * i if i < 20 else 1300 + 200 * (i - 20) for i in range(40)]  # variable, from half a second on
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.set_display_rotation(90)
        for index, tick in enumerate(ticks):
            image = np.full((64, 128, 3), 8 + 6 * index, dtype=np.uint8)
            image[:, 64:] = 0  # what is right in the file is up when shown
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert prepare.prepare_video(source, tmp_path / "copy.mp4", short_side=32, group=8, crf=20) is None
    everything = lambda metadata: np.arange(metadata.total_num_frames)  # noqa: E731
    original, before = decode_frames(source, everything)
    copy, after = decode_frames(tmp_path / "copy.mp4", everything)
    assert original.shape == (40, 3, 128, 64) and copy.shape == (40, 3, 64, 32)
    assert copy[..., :30, :].float().mean() < 4
    assert (copy[..., 34:, :].float().mean((1, 2, 3)) - original[..., 66:, :].float().mean((1, 2, 3))).abs().max() < 3
    np.testing.assert_allclose(after.times, before.times, atol=1e-4)
    np.testing.assert_allclose(after.times, (np.array(ticks) - 500) / 1000, atol=1e-4)
    assert after.duration == pytest.approx(before.duration, abs=0.01)
    with av.open(str(tmp_path / "copy.mp4")) as container:
        first = next(container.decode(video=0))
        assert first.rotation == 0 and first.time == pytest.approx(0.5)


def test_linked_folders_are_copied_and_hidden_files_are_not(tmp_path, write_video):
    write_video(tmp_path / "elsewhere" / "v.mp4", frames=3)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "videos")
    (tmp_path / "elsewhere" / "._v.mp4").write_bytes(b"made by a Mac")
    assert prepare.prepare_videos(tmp_path / "videos", tmp_path / "fast", workers=1) == []
    assert [path.relative_to(tmp_path / "fast").as_posix() for path in (tmp_path / "fast").rglob("*.mp4")] == [
        "linked/v.mp4"
    ]


def test_shares_of_the_work_make_the_whole(tmp_path, write_video):
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=2)
    (tmp_path / "videos" / "d.mp4").write_bytes(b"no video")
    for share, copies in (("2/3", ["b"]), ("1/3", ["a", "b"]), ("3/3", ["a", "b", "c"])):
        command.main([str(tmp_path / "videos"), str(tmp_path / "fast"), "--workers", "1", "--shard", share])
        assert sorted(path.stem for path in (tmp_path / "fast").glob("*.mp4")) == copies
    reports = [(tmp_path / "fast" / f"failures-{number}-of-3.jsonl").read_text() for number in (1, 2, 3)]
    assert json.loads("".join(reports))["video"] == "d.mp4"


def test_copies_inside_the_folder_are_not_copied(tmp_path, write_video):
    write_video(tmp_path / "v.ts", frames=3)
    for _ in range(2):
        command.main([str(tmp_path), str(tmp_path / "fast"), "--workers", "1"])
    assert [path.name for path in tmp_path.rglob("*.mp4")] == ["v.mp4"]


def test_arguments_that_make_no_sense_get_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main([str(tmp_path), str(tmp_path / "fast"), "--workers", "0"])
    assert "--workers" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, so that they see the stand-in")
def test_a_video_that_kills_its_worker_fails_alone(tmp_path, write_video, monkeypatch):
    write = prepare._write_copy

    def write_or_die(source, *arguments):
        if source.stem == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        write(source, *arguments)

    monkeypatch.setattr(prepare, "_write_copy", write_or_die)
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=2)
    (failure,) = prepare.prepare_videos(tmp_path / "videos", tmp_path / "fast", workers=1)
    assert failure == {"video": "b.mp4", "error": "the process that read it ended by SIGKILL"}
    assert sorted(path.stem for path in (tmp_path / "fast").glob("*.mp4")) == ["a", "c"]


PATCHES = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (200, 120, 40),
    (90, 90, 90),
    (255, 255, 255),
    (0, 0, 0),
    (30, 160, 220),
]


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt", "colorspace", "color_range"),
    [
        ("libx264", "mp4", "yuv420p", Colorspace.ITU709, ColorRange.MPEG),
        ("libvpx-vp9", "webm", "yuv420p", Colorspace.ITU709, ColorRange.MPEG),
        ("mjpeg", "avi", "yuvj444p", Colorspace.ITU601, ColorRange.JPEG),
        ("libx264", "mkv", "yuv420p", Colorspace.ITU709, ColorRange.JPEG),
        ("libx264rgb", "mkv", "rgb24", None, None),
    ],
)
def test_the_copy_keeps_colours(tmp_path, codec, container, pix_fmt, colorspace, color_range):
    image = np.repeat(np.repeat(np.array(PATCHES, np.uint8).reshape(2, 4, 3), 32, axis=0), 32, axis=1)
    source = tmp_path / f"v.{container}"
    with av.open(str(source), "w") as container:
        stream = container.add_stream(codec, rate=5)
        (stream.height, stream.width), stream.pix_fmt = image.shape[:2], pix_fmt
        if colorspace is not None:
            # FFmpeg's own numbers: 1 is BT.709, 5 BT.601.
            stream.codec_context.colorspace = 1 if colorspace == Colorspace.ITU709 else 5
            stream.codec_context.color_range = color_range
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        if colorspace is not None:
            frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace, dst_color_range=color_range)
        for index in range(3):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert prepare.prepare_video(source, tmp_path / "copy.mp4", short_side=64, group=8, crf=20) is None
    original, copy = (decode_frames(path, [1])[0][0].int() for path in (source, tmp_path / "copy.mp4"))
    centres = (slice(None), slice(16, None, 32), slice(16, None, 32))
    shown = torch.from_numpy(image.transpose(2, 0, 1).astype(int))
    assert (original[centres] - shown[centres]).abs().max() <= 6  # the file is what it should be
    assert (original[centres] - copy[centres]).abs().max() <= 3


@pytest.mark.parametrize("name", ["04_bt709.mp4", "04b_full_range.avi", "04d_bt709.webm"])
def test_copies_of_the_cases_keep_their_colours(shared, tmp_path, name):
    source = shared / "cases" / name
    assert prepare.prepare_video(source, tmp_path / "copy.mp4", short_side=256, group=8, crf=20) is None
    original, copy = (decode_frames(path, [0, 4])[0].int() for path in (source, tmp_path / "copy.mp4"))
    near = [original.roll(step, side) for step in range(-6, 7) for side in (2, 3)]
    flat = torch.stack([(original - other).abs().amax(1) for other in near]).amax(0) <= 1  # (2, height, width)
    assert flat.float().mean() > 0.1 and (original - copy).abs().amax(1)[flat].max() <= 3


def test_the_copy_keeps_the_clock_and_the_shape(tmp_path):
    """Pictures from 1 to 2.6 s with sound from 0 to 4 s, with pixels twice as wide as high."""
    source = tmp_path / "late.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 64000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
        for index in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 + 6 * index, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = 1000 + 40 * index, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert prepare.prepare_video(source, tmp_path / "copy.mp4", short_side=16, group=8, crf=20) is None
    (original, before), (copy, after) = (
        decode_frames(path, [0], start=2.0) for path in (source, tmp_path / "copy.mp4")
    )
    assert original.shape[2:] == (32, 64) and copy.shape[2:] == (16, 32)
    assert (original.float().mean() - copy.float().mean()).abs() < 3
    assert before.times[0] == pytest.approx(after.times[0], abs=0.001)
    assert before.video_end == pytest.approx(after.video_end, abs=0.07)
