"""Folders of files that can be made again: each is there whole or not at all, and those unused the longest go."""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


def digest(*parts: Any) -> str:
    """Returns a short name for values that are told apart by their representation."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def cache_folder(name: str) -> Path:
    """Returns the folder `siasamrea/name` in the user's folder of caches (`XDG_CACHE_HOME` or `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siasamrea" / name


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path` and moves it there when it is whole; a killed process leaves nothing half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            yield file
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def note_use(path: Path) -> None:
    """Notes that a file is used now, by its time of access. Its time of change stays."""
    os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))


def delete_unused(folder: Path, most: int, in_use: float = 0.0) -> None:
    r"""
    Deletes files of a folder until it is small enough, beginning with those that were not used the longest.

    Args:
        folder (`Path`): The folder.
        most (`int`): Most bytes of all its files.
        in_use (`float`, *optional*, defaults to 0): Seconds for which a file is kept after its last use.
    """
    with suppress(FileNotFoundError):  # another process is deleting, too
        files = [(file.stat().st_atime, file.stat().st_size, file.path) for file in os.scandir(folder)]
        size = sum(length for _, length, _ in files)
        for used, length, path in sorted(files):
            if size <= most or used > time.time() - in_use:
                break
            os.unlink(path)
            size -= length
