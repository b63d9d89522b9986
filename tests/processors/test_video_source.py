"""Every kind of thing a video may come from: whole, or one sentence."""

import gzip
import io
import os
import pickle
from pathlib import Path

import pytest

from modeling_siasamrea.processors.video_download import DownloadLimits, limit_downloads
from modeling_siasamrea.processors.video_source import VideoDecodingError, absolute_path, local_file


def content(video) -> bytes:
    with local_file(video) as path:
        assert os.path.isabs(path)
        return Path(path).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "with spaces",
        "été.mp4",
        "a:b.mp4",
        "http:a.mp4",
        "~nobody.mp4",
        "-x",
        "%03d.mp4",
        "line\nend",
        "\u2028",
    ],
)
def test_names_of_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"film")
    assert content(name) == content(Path(name)) == content(tmp_path / name) == b"film"


def test_a_name_that_is_not_utf8_gets_another_for_the_decoder(tmp_path):
    name = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"))
    try:
        Path(name).write_bytes(b"film")
    except OSError:
        pytest.skip("this file system has no such names")
    with local_file(name) as path:
        assert path.encode().isascii() and Path(path).read_bytes() == b"film"
    assert not os.path.lexists(path)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "film.mp4").write_bytes(b"film")
    assert content("~/film.mp4") == content(Path("~/film.mp4")) == b"film"


def test_file_addresses_are_paths(tmp_path):
    (tmp_path / "a film.mp4").write_bytes(b"film")
    address = (tmp_path / "a film.mp4").as_uri()
    assert "%20" in address and content(address) == content(address.replace("file://", "FILE://localhost")) == b"film"
    assert absolute_path(address) == str(tmp_path / "a film.mp4")


def test_bytes_and_dictionaries(tmp_path):
    (tmp_path / "film").write_bytes(b"film")
    path = str(tmp_path / "film")
    for video in (b"film", bytearray(b"film"), memoryview(b"f-i-l-m")[::2]):
        assert content(video) == b"film"
    assert content({"path": path, "bytes": None}) == content({"path": path}) == content({"bytes": b"film"}) == b"film"
    assert content({"path": "elsewhere.mp4", "bytes": b"film"}) == b"film"  # as `datasets` gives embedded files


def test_file_objects_are_read_from_their_beginning_and_left_where_they_were(tmp_path):
    (tmp_path / "film").write_bytes(b"film")
    with open(tmp_path / "film", "rb") as file:
        file.seek(2)
        assert content(file) == content(file) == b"film" and file.tell() == 2
    written = io.BytesIO()
    written.write(b"film")
    assert content(written) == b"film"
    reading, writing = os.pipe()
    os.write(writing, b"film")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:  # cannot seek
        assert content(pipe) == b"film"


class Nothing:
    def read(self, size):
        return None


def closed() -> io.BytesIO:
    file = io.BytesIO(b"film")
    file.close()
    return file


@pytest.mark.parametrize(
    ("video", "sentence"),
    [
        ("", "video '': there is no such file"),
        ("nowhere.mp4", "nowhere.mp4: there is no such file"),
        ("~/nowhere.mp4", "~/nowhere.mp4: there is no such file"),
        ("~nobody/film.mp4", "there is no such file"),
        (".", "it is a folder, not a file"),
        ("~", "it is a folder, not a file"),
        ("/dev/zero", "it is a device, not a file"),
        ("x" * 5000, "x…: it cannot be opened .File name too long"),
        ("a\0b", r"a\\x00b: its name has characters that no file name can have"),
        ("\ud800", r"\\ud800: its name has characters"),
        ("ftp://host/film.mp4", "must begin with one of file, http, https, s3, gs, hf, not ftp"),
        ("file:///nowhere.mp4", "there is no such file"),
        ("file://host/film.mp4", "there is no such file"),
        ("data:video/mp4;base64,AAAA", "not data"),
        (b"", "of 0 bytes in memory: there are no bytes in it"),
        (io.BytesIO(), "of type BytesIO: there are no bytes in it"),
        (io.StringIO("film"), "a bytes-like object is required, not 'str'"),
        (closed(), "reading the file object failed .*closed"),
        (Nothing(), "not 'NoneType'"),
        (gzip.GzipFile(fileobj=io.BytesIO(b"\x1f\x8b" + b"x" * 20)), "reading the file object failed"),
        ({}, "needs path or bytes alone; it has ..\\."),
        ({"path": None, "bytes": None}, "needs path or bytes"),
        ({"path": "a.mp4", "fps": 3}, r"it has \['fps', 'path'\]"),
        ({"path": 3}, "of type int: a video is a path"),
        (None, "of type NoneType: a video is a path"),
        (float("nan"), "of type float: a video is a path"),
        (object(), "columns of datasets: with decode=False"),
    ],
)
def test_everything_else_gets_one_sentence(video, sentence):
    with pytest.raises(VideoDecodingError, match=sentence) as caught:
        content(video)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_file_object_without_end(monkeypatch):
    with open("/dev/zero", "rb") as endless, limit_downloads(DownloadLimits(max_bytes=3 << 20)):
        with pytest.raises(VideoDecodingError, match="/dev/zero: .*larger than the limit of 3145728 bytes"):
            content(endless)
