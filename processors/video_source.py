"""Turns a file, an address, bytes or a file object into a path that a decoder can open."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .video_download import download, download_limits
from .video_error import VideoDecodingError, first_line
from .video_store import PIECE, SCHEMES, stored_file


VideoSource = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | dict[str, Any]


def is_file_object(video: Any) -> bool:
    """Says whether something can be read like an open file."""
    return callable(getattr(video, "read", None))


def is_source(video: Any) -> bool:
    """Says whether something is of a kind that [`local_file`] takes."""
    return isinstance(video, (str, os.PathLike, bytes, bytearray, memoryview, dict)) or is_file_object(video)


def source_name(video: Any) -> str:
    """Returns the name of a video in an error."""
    if isinstance(video, (str, os.PathLike)):
        return os.fsdecode(video) or "''"
    if isinstance(video, dict):
        return source_name(video["path"] if video.get("path") else video.get("bytes"))
    if isinstance(video, (bytes, bytearray, memoryview)):
        return f"of {memoryview(video).nbytes} bytes in memory"
    name = getattr(video, "name", None)
    return name if isinstance(name, str) and name else f"of type {type(video).__name__}"


@contextmanager
def local_file(video: VideoSource) -> Iterator[str]:
    r"""
    Gives the path of a video. What is not a file is written to a temporary one, which is there until the `with` ends.

    Args:
        video: A path (`str` or `PathLike`, `~` is the home folder), an address (file, http, https, s3, gs or hf), the
            bytes of a file, a file object open for reading bytes, or a dictionary with `path` or `bytes`, as
            `datasets` gives for a video that it does not decode (bytes come first). A file object that can seek is
            read from its beginning and put back, others are read from where they are (decision). Downloads and file
            objects have the limits of [`DownloadLimits`].

    Yields:
        `str`: An absolute path, which no decoder takes for an address.

    Raises:
        [`VideoDecodingError`]: If there is no file, it is empty or cannot be opened, or the download failed.
    """
    if isinstance(video, dict):
        if not set(video) <= {"path", "bytes"} or (video.get("path") is None and video.get("bytes") is None):
            raise VideoDecodingError(
                "in a dictionary", f"it needs path or bytes alone; it has {sorted(map(str, video))}"
            )
        video = video["path"] if video.get("bytes") is None else video["bytes"]
    name = source_name(video)
    if isinstance(video, (bytes, bytearray, memoryview)):
        video = BytesIO(bytes(video))
    if is_file_object(video):
        with _temporary(name, partial(_copy_file_object, name, video)) as path:
            yield path
    elif not isinstance(video, (str, os.PathLike)):
        raise VideoDecodingError(
            name, "a video is a path, an address, bytes, a file or frames (columns of datasets: with decode=False)"
        )
    elif (scheme := _scheme(name)) in SCHEMES:
        yield _existing(stored_file(name))
    elif scheme in ("http", "https"):
        with _temporary(name, partial(download, name)) as path:
            yield path
    elif scheme not in (None, "file"):
        known = ", ".join(("file", "http", "https", *SCHEMES))
        raise VideoDecodingError(name, f"an address must begin with one of {known}, not {scheme}")
    else:
        with _plain(_existing(name)) as path:
            yield path


def _scheme(name: str) -> str | None:
    """Returns the scheme of an address in small letters; a file may have a name that looks like one."""
    match = re.match(r"([a-z][a-z0-9+.-]*)://|(data):", name, re.IGNORECASE)
    return None if match is None or os.path.exists(name) else (match[1] or match[2]).lower()


def absolute_path(name: str) -> str:
    """Returns the absolute path that a name stands for: `~` is the home folder, unless a file has that name."""
    if _scheme(name) == "file" and urlsplit(name).netloc in ("", "localhost"):
        name = url2pathname(urlsplit(name).path)
    return os.path.abspath(name if os.path.exists(name) else os.path.expanduser(name))


def _existing(name: str) -> str:
    """Returns the absolute path of a file that can be opened and is not empty."""
    path = absolute_path(name)
    if os.path.exists(path) and not os.path.isfile(path):
        raise VideoDecodingError(name, f"it is a {'folder' if os.path.isdir(path) else 'device'}, not a file")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise VideoDecodingError(name, "there is no such file") from None
    except OSError as error:
        raise VideoDecodingError(name, f"it cannot be opened ({error.strerror})") from None
    except ValueError:
        raise VideoDecodingError(name, "its name has characters that no file name can have") from None
    if empty:
        raise VideoDecodingError(name, "the file is empty")
    return path


@contextmanager
def _plain(path: str) -> Iterator[str]:
    """Gives another name to a path that is not UTF-8 or that a decoder could take for a pattern of names."""
    if "%" not in path and path.isprintable():
        yield path
    else:
        with tempfile.TemporaryDirectory() as folder:
            link = os.path.join(folder, "video")
            os.symlink(path, link)
            yield link


@contextmanager
def _temporary(name: str, write: Callable[[BinaryIO], None]) -> Iterator[str]:
    """Gives the path of a temporary file with what `write` writes."""
    with tempfile.NamedTemporaryFile() as file:
        write(file)
        file.flush()
        if not file.tell():
            raise VideoDecodingError(name, "there are no bytes in it")
        yield file.name


def _copy_file_object(name: str, video: Any, file: BinaryIO) -> None:
    limits = download_limits.get()
    try:
        position = video.tell() if hasattr(video, "seekable") and video.seekable() else None
        if position is not None:
            video.seek(0)
        while (piece := video.read(PIECE)) != b"":
            file.write(piece)
            limits.check_size(file.tell())
        if position is not None:
            video.seek(position)
    except Exception as error:  # whatever the object's own code raises
        raise VideoDecodingError(name, f"reading the file object failed ({first_line(error)})") from None
