"""Downloads a video from a store such as s3://, through fsspec, into a cache of bounded size."""

import hashlib
import os
import tempfile
import time
from pathlib import Path

import fsspec

from .video_download import DownloadError, DownloadLimits, current_limits


SCHEMES = ("s3", "gs", "hf")
CACHE_BYTES = 20 << 30  # of the whole cache (decision)
IN_USE_SECONDS = 600  # a video that was asked for since then is not deleted
PIECE = 1 << 20  # bytes


def cache_folder() -> Path:
    """Returns the folder of downloaded videos: `siasamrea/videos` in the user's folder of caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siasamrea" / "videos"


def stored_file(address: str) -> str:
    r"""
    Downloads a video whole, or finds it in the cache if the store's file has not changed since.

    Args:
        address (`str`): An address with the scheme s3, gs or hf; the store's own library reads the user's keys.

    Returns:
        `str`: The path in the cache. Beyond 20 GiB the videos that were not asked for the longest are deleted.

    Raises:
        `DownloadError`: If the store's library is missing, there is no such file, or it is larger or slower than
            [`DownloadLimits`] allow.
    """
    limits = current_limits()
    if limits.public_only:
        raise DownloadError("only public addresses are allowed, and this one is of a store")
    try:
        store, place = fsspec.core.url_to_fs(address)
        key = hashlib.sha256(f"{address} {store.ukey(place)}".encode()).hexdigest()
        path = cache_folder() / f"{key}{Path(place).suffix}"
        if path.exists():
            os.utime(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(store, place, path, limits)
            _delete_oldest(path.parent)
        return str(path)
    except DownloadError:
        raise
    except ImportError:
        raise DownloadError('its store needs a library: pip install "siasamrea[remote]"') from None
    except FileNotFoundError:
        raise DownloadError("there is no such file") from None
    except Exception as error:  # each store's library has its own
        reason = str(error).strip() or type(error).__name__
        raise DownloadError(f"the download failed ({reason.splitlines()[0][:200]})") from None


def _download(store: fsspec.AbstractFileSystem, place: str, path: Path, limits: DownloadLimits) -> None:
    """Writes a file beside its path and moves it there when it is whole, so that a kill leaves nothing half."""
    end, received, announced = time.monotonic() + limits.max_seconds, 0, store.size(place) or 0
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            with store.open(place, "rb") as remote:
                while max(received, announced) <= limits.max_bytes and time.monotonic() < end:
                    piece = remote.read(PIECE)
                    received += file.write(piece)
                    if not piece:
                        return os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)
    if max(received, announced) > limits.max_bytes:
        raise DownloadError(f"the download is larger than the limit of {limits.max_bytes} bytes")
    raise DownloadError(f"the download took longer than the limit of {limits.max_seconds:g} s")


def _delete_oldest(folder: Path) -> None:
    """Deletes files from the one that was not asked for the longest on, until the cache is small enough."""
    files = sorted((status.st_mtime, status.st_size, path) for path in folder.iterdir() if (status := path.stat()))
    size = sum(length for _, length, _ in files)
    for used, length, path in files:
        if size <= CACHE_BYTES or used > time.time() - IN_USE_SECONDS:
            break
        path.unlink(missing_ok=True)
        size -= length


__all__ = ["SCHEMES", "stored_file"]
