"""Downloads a video from a store such as s3://, through fsspec, into a cache of bounded size."""

import hashlib
import time
from pathlib import Path

import fsspec

from .disk_cache import cache_folder, delete_unused, new_file, note_use
from .video_download import DownloadLimits, download_limits
from .video_error import VideoDecodingError, first_line


SCHEMES = ("s3", "gs", "hf")
CACHE_BYTES = 20 << 30  # of the whole cache (decision)
IN_USE_SECONDS = 600  # a video that was asked for since then is not deleted
PIECE = 1 << 20  # bytes


def stored_file(address: str) -> str:
    r"""
    Downloads a video whole, or finds it in the cache if the store's file has not changed since.

    Args:
        address (`str`): An address with the scheme s3, gs or hf; the store's own library reads the user's keys.

    Returns:
        `str`: The path in the cache. Beyond 20 GiB the videos that were not asked for the longest are deleted.

    Raises:
        [`VideoDecodingError`]: If the store's library or the file is missing, or it is larger or slower than
            [`DownloadLimits`] allow.
    """
    limits = download_limits.get()
    if limits.public_only:
        raise VideoDecodingError(address, "only public addresses are allowed, and this one is of a store")
    try:
        store, place = fsspec.core.url_to_fs(address)
        key = hashlib.sha256(f"{address} {store.ukey(place)}".encode()).hexdigest()
        path = cache_folder("videos") / key
        if not path.exists():
            _download(store, place, path, limits)
            delete_unused(path.parent, CACHE_BYTES, IN_USE_SECONDS)
        note_use(path)
        return str(path)
    except ImportError:
        raise VideoDecodingError(address, 'its store needs a library: pip install "siasamrea[remote]"') from None
    except FileNotFoundError:
        raise VideoDecodingError(address, "there is no such file") from None
    except Exception as error:  # each store's library has its own
        raise VideoDecodingError(address, f"the download failed ({first_line(error)})") from None


def _download(store: fsspec.AbstractFileSystem, place: str, path: Path, limits: DownloadLimits) -> None:
    """Downloads a file."""
    end = time.monotonic() + limits.max_seconds
    limits.check_size(store.size(place) or 0)
    with new_file(path) as file, store.open(place, "rb") as remote:
        while piece := remote.read(PIECE):
            file.write(piece)
            limits.check_size(file.tell())
            if time.monotonic() > end:
                raise ValueError(f"it takes longer than the limit of {limits.max_seconds:g} s")
