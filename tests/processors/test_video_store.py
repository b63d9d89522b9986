"""Videos of a store: whole, kept in a cache of bounded size, within the limits. A folder stands in for s3."""

import os
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem

from modeling_siasamrea.processors import video_store
from modeling_siasamrea.processors.video_download import DownloadLimits, limit_downloads
from modeling_siasamrea.processors.video_source import VideoDecodingError, local_file


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """What s3:// reads here, and a cache that is empty."""
    folder = tmp_path / "bucket"
    folder.mkdir()

    store = DirFileSystem(str(folder), fsspec.filesystem("file"))
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda address: (store, address.removeprefix("s3://")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def content(name: str) -> bytes:
    with local_file(f"s3://{name}") as path:
        return Path(path).read_bytes()


def cached() -> list[Path]:
    return sorted(video_store.cache_folder("videos").iterdir())


def test_a_video_is_downloaded_once_and_again_when_it_changes(bucket):
    (bucket / "film.mp4").write_bytes(b"film")
    assert content("film.mp4") == b"film"
    (path,) = cached()
    path.write_bytes(b"kept")
    assert content("film.mp4") == b"kept"
    (bucket / "film.mp4").write_bytes(b"longer film")
    assert content("film.mp4") == b"longer film"


def test_the_cache_keeps_what_was_asked_for_last(bucket, monkeypatch):
    monkeypatch.setattr(video_store, "CACHE_BYTES", 25)
    monkeypatch.setattr(video_store, "IN_USE_SECONDS", 50)
    for name in "abc":
        (bucket / name).write_bytes(name.encode() * 10)
        content(name)
    paths = {path.read_bytes()[:1]: path for path in cached()}
    for age, name in ((300, b"a"), (200, b"b"), (100, b"c")):
        os.utime(paths[name], (time.time() - age,) * 2)
    content("b")  # asked for just now, so c goes
    (bucket / "d").write_bytes(b"d" * 10)
    content("d")
    assert sorted(path.read_bytes()[:1] for path in cached()) == [b"b", b"d"]
    monkeypatch.setattr(video_store, "CACHE_BYTES", 5)  # what was asked for just now may still be read
    (bucket / "e").write_bytes(b"e" * 10)
    content("e")
    assert len(cached()) == 3


def test_limits_and_failures_leave_nothing(bucket, monkeypatch):
    (bucket / "film.mp4").write_bytes(b"x" * 100)
    monkeypatch.setattr(video_store, "PIECE", 10)
    for limits, said in (
        ({"max_bytes": 99, "max_seconds": 1e-9}, "limit of 99 bytes"),  # known before the first piece
        ({"max_seconds": 1e-9}, "limit of 1e-09 s"),
        ({"public_only": True}, "only public addresses"),
    ):
        with limit_downloads(DownloadLimits(**limits)), pytest.raises(VideoDecodingError, match=said):
            content("film.mp4")
    with pytest.raises(VideoDecodingError, match="nowhere.mp4: there is no such file"):
        content("nowhere.mp4")
    assert cached() == []


def test_a_missing_library_is_named(monkeypatch):
    def url_to_fs(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(VideoDecodingError, match=r"siasamrea\[remote\]"):
        content("film.mp4")
