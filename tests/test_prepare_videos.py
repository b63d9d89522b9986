"""The fast copy of a folder: the same frames at the same indices, resumable, failures named."""

import json
import os

import av
import numpy as np
import pytest

from modeling_siasamrea.processors.video_decoding import decode_frames


@pytest.fixture(scope="module")
def script(example):
    return example("prepare_videos")


def test_the_copy_has_the_same_frames_smaller_and_without_audio(script, tmp_path, write_video):
    source, target = tmp_path / "videos", tmp_path / "fast"
    write_video(source / "a" / "v.mkv", frames=40, height=96, width=128)
    assert script.prepare_videos(source, target, short_side=48) == []
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


def test_small_videos_are_not_enlarged_and_sizes_are_even(script):
    assert script.new_size(1280, 720, 256) == (456, 256)
    assert script.new_size(64, 48, 256) == (64, 48)
    assert script.new_size(721, 1281, 256) == (256, 454)


def test_what_is_finished_is_not_done_again_and_failures_are_named(script, tmp_path, write_video):
    source, target = tmp_path / "videos", tmp_path / "fast"
    write_video(source / "good.mp4")
    (source / "broken.mp4").write_bytes(b"not a video")
    (failure,) = script.prepare_videos(source, target)
    assert failure["video"] == "broken.mp4" and failure["error"]
    assert json.loads((target / "failures.jsonl").read_text()) == failure
    os.utime(target / "good.mp4", (1, 1))
    # An unfinished file, as a killed run leaves it, is no copy.
    (target / ".broken.mp4.part").write_bytes(b"half")
    write_video(source / "broken.mp4")
    assert script.prepare_videos(source, target) == []
    assert (target / "good.mp4").stat().st_mtime == 1
    assert sorted(path.name for path in target.iterdir()) == ["broken.mp4", "failures.jsonl", "good.mp4"]


def test_names_that_would_collide_are_refused(script, tmp_path, write_video):
    write_video(tmp_path / "v.mp4")
    write_video(tmp_path / "v.mkv")
    with pytest.raises(ValueError, match=r"would both become .*v\.mp4"):
        script.prepare_videos(tmp_path, tmp_path / "fast")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no videos"):
        script.prepare_videos(tmp_path / "empty", tmp_path / "fast")
