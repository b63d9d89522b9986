"""Frame indices on disk, so that a large file that is known is not read whole by each process that opens it."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np

from .disk_cache import cache_folder, delete_unused, digest, new_file, note_use


VERSION = 1  # to be raised where the same file gives another index
STORE_BYTES = 1 << 28  # of the whole folder (decision); an hour at 25 frames per second takes some 0.5 MB
SAMPLE = 1 << 14  # bytes of a file's head and of its tail that are part of its key
NEW_SECONDS = 10  # a file that was changed since then may be a temporary one, or still be written


def index_file(path: str, status: os.stat_result) -> Path | None:
    r"""
    Returns where the index of a video file is kept.

    Its name depends on the versions of this code and of PyAV, and on the video's path, size, time of change, head and
    tail. A digest of the whole content would need to read all of it.

    Args:
        path (`str`): The video file.
        status (`os.stat_result`): Its status.

    Returns:
        `Path`, *optional*: A file in the folder `siasamrea/frame_indices` of the user's caches; `None` if the video
        was changed in the last seconds, or the user has no home folder.
    """
    if status.st_mtime > time.time() - NEW_SECONDS:
        return None
    try:
        folder = cache_folder("frame_indices")
    except RuntimeError:
        return None
    with open(path, "rb") as file:
        head = file.read(SAMPLE)
        file.seek(max(0, status.st_size - SAMPLE))
        parts = (os.path.realpath(path), status.st_size, status.st_mtime_ns, head, file.read(SAMPLE))
    return folder / f"{digest(VERSION, av.__version__, *parts)}.npz"


def read_index(file: Path) -> dict[str, Any]:
    """Reads the fields of an index; raises what NumPy raises for a file that is missing or damaged."""
    with np.load(file, allow_pickle=False) as arrays:
        fields = {name: value if value.ndim else value.item() for name, value in arrays.items()}
    with suppress(OSError):  # a folder that can only be read
        note_use(file)
    return fields


def write_index(file: Path, fields: dict[str, Any]) -> None:
    """Writes the fields of an index, numbers and arrays; does nothing if the disk is full or cannot be written."""
    with suppress(OSError):
        with new_file(file) as new:
            np.savez_compressed(new, **fields)
        delete_unused(file.parent, STORE_BYTES)
