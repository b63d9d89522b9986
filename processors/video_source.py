"""Where a video comes from: a file or an address, as a path that a decoder can open."""

import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


DOWNLOAD_TIMEOUT = 60  # seconds without an answer


class VideoDecodingError(ValueError):
    """
    A video that cannot be read.

    Args:
        video (`str`): The file or address.
        reason (`str`): Why not.
    """

    def __init__(self, video: str, reason: str):
        super().__init__(video, reason)  # both, so that the error survives the way back from a worker process
        self.video, self.reason = video, reason

    def __str__(self) -> str:
        return f"Cannot read the video {self.video}: {self.reason}."


@contextmanager
def local_file(video: str) -> Iterator[str]:
    """The path of a video; an address is downloaded for as long as it is needed."""
    if video.startswith(("http://", "https://")):
        with tempfile.NamedTemporaryFile(suffix=Path(video.split("?")[0]).suffix) as file:
            try:
                with urllib.request.urlopen(video, timeout=DOWNLOAD_TIMEOUT) as response:
                    while chunk := response.read(1 << 20):
                        file.write(chunk)
            except (urllib.error.URLError, OSError) as error:
                raise VideoDecodingError(video, f"the download failed ({getattr(error, 'reason', error)})") from None
            file.flush()
            if not file.tell():
                raise VideoDecodingError(video, "the download is empty")
            yield file.name
        return
    path = Path(video).expanduser()
    if not path.exists():
        raise VideoDecodingError(video, "there is no such file")
    if not path.is_file():
        raise VideoDecodingError(video, "it is a folder, not a file")
    if not path.stat().st_size:
        raise VideoDecodingError(video, "the file is empty")
    yield str(path)


__all__ = ["VideoDecodingError", "local_file"]
