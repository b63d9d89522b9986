"""Frame indices on disk: the same frames for fewer bytes, whatever happens to the file of an index."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_videos import CLOSED, write

from modeling_siasamrea.processors import frame_index as frame_index_module
from modeling_siasamrea.processors import frame_index_store
from modeling_siasamrea.processors.frame_index import frame_index
from modeling_siasamrea.processors.video_decoding import decode_frames


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(frame_index_store, "cache_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(frame_index_module, "STORED_BYTES", 0)
    return tmp_path / "frame_indices"


@pytest.fixture
def video(write_video, tmp_path) -> Path:
    return make_old(write_video(tmp_path / "large.mkv", codec="rawvideo", height=240, width=320))  # 4.6 MB


def make_old(path: Path) -> Path:
    """Sets the time of change of a file: those that were changed just now are not kept."""
    os.utime(path, (1e9, 1e9))
    return path


def forget() -> None:
    """Forgets what the process remembers, as another process does not know it."""
    frame_index_module._remembered.clear()


def fields(path: Path) -> dict:
    forget()
    return vars(frame_index(str(path), str(path)))


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="/proc tells how much is read")
def test_two_frames_of_a_known_file_need_few_of_its_bytes(folder, video):
    read, frames = [], []
    for _ in range(2):
        forget()
        before = bytes_read()
        frames.append(decode_frames(video, [3, 30])[0])
        read.append(bytes_read() - before)
    assert read[0] > video.stat().st_size and read[1] < 800_000
    assert torch.equal(*frames)


@pytest.mark.parametrize("name", ["v.mp4", "counted.avi"])
def test_an_index_comes_back_as_it_was(folder, tmp_path, name):
    path = make_old(write(tmp_path / name, "libx264" if name == "v.mp4" else "mpeg4", CLOSED, max_b_frames=2))
    new, known = fields(path), fields(path)
    assert len(list(folder.iterdir())) == 1 and (len(new["pts"]) == 0) == (name == "counted.avi")
    for field, value in new.items():
        assert type(value) is type(known[field])
        np.testing.assert_array_equal(value, known[field])


def test_a_torn_index_and_another_file_in_its_place_are_replaced(folder, video):
    index = fields(video)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    np.savez(folder / "other.npz", times=np.zeros(3))
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 255
    for wrong in (content[:-200], b"", b"no index", bytes(damaged), (folder / "other.npz").read_bytes()):
        file.write_bytes(wrong)
        np.testing.assert_array_equal(fields(video)["times"], index["times"])
        assert frame_index_store.read_index(file).keys() == index.keys()


def test_another_video_of_the_same_name_size_and_time_has_its_own(folder, video):
    assert fields(video)["width"] == 320
    content = video.read_bytes()
    video.write_bytes(content[:-100] + bytes(100))
    make_old(video)
    fields(video)
    assert len(list(folder.iterdir())) == 2


def test_the_folder_stays_small_and_keeps_what_was_used_last(folder, tmp_path, monkeypatch):
    paths = [make_old(write(tmp_path / f"{name}.mp4", "libx264", CLOSED)) for name in "abc"]
    fields(paths[0])
    (first,) = folder.iterdir()
    monkeypatch.setattr(frame_index_store, "STORE_BYTES", int(2.5 * first.stat().st_size))
    fields(paths[1])
    fields(paths[0])
    fields(paths[2])
    assert len(list(folder.iterdir())) == 2 and first.exists()


def test_new_files_leave_nothing_and_a_disk_that_cannot_be_written_is_done_without(folder, video, tmp_path):
    os.utime(video, (time.time(),) * 2)
    index = fields(video)
    assert not folder.exists()
    make_old(video)
    folder.write_text("in the way")
    np.testing.assert_array_equal(fields(video)["times"], index["times"])


def test_threads_share_the_remembered_indices(folder, tmp_path, monkeypatch):
    paths = [str(write(tmp_path / f"{name}.mp4", "libx264", CLOSED)) for name in "abcd"]
    expected = [fields(path)["pts"] for path in paths]
    monkeypatch.setattr(frame_index_module, "CACHED_FRAMES", 130)  # two of them
    with ThreadPoolExecutor(8) as pool:
        indices = list(pool.map(lambda path: frame_index(path, path), paths * 40))
    for index, pts in zip(indices, expected * 40):
        np.testing.assert_array_equal(index.pts, pts)
