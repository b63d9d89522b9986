"""Checks videos before they are trained on."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..data.questions import VideoQuestion
from ..processors.video_decoding import FrameTimes, VideoDecodingError, decode_frames
from ..processors.video_source import absolute_path
from .separate_processes import in_separate_processes


TIMEOUT = 300.0  # seconds that a video may take to be checked
MAX_ASPECT_RATIO = 4.0
# Videos with these faults go to the skip list.
UNUSABLE = ("missing", "unreadable", "no frames", "kills its decoder", "takes too long")


class Video(NamedTuple):
    """A video to check, the latest second that a question asks about, and its bytes where the rows bring them."""

    path: str
    latest: float | None
    data: bytes | None = None


class Fault(NamedTuple):
    """Something wrong with a video."""

    video: str
    fault: str
    detail: str


def check_video(path: str, latest: float | None, data: bytes | None = None) -> list[Fault]:
    r"""
    Finds what is wrong with a video.

    Args:
        path (`str`): Its path, address or name.
        latest (`float`, *optional*): The latest second that a question asks about.
        data (`bytes`, *optional*): The video's file itself, if the rows bring it.

    Returns:
        `list[Fault]`: `missing`, `unreadable` (with the decoder's reason), `no frames`, `one frame`,
        `shorter than a span` or `extreme aspect ratio`; empty for a good video.
    """
    if data is None and "://" not in path and not os.path.exists(absolute_path(path)):
        return [Fault(path, "missing", "there is no such file")]

    def first_middle_last(metadata: FrameTimes) -> np.ndarray:
        return np.unique([0, metadata.total_num_frames // 2, metadata.total_num_frames - 1])

    try:
        frames, metadata = decode_frames(data or path, first_middle_last)
    except VideoDecodingError as error:
        return [Fault(path, "no frames" if "no frames" in error.reason else "unreadable", error.reason)]
    faults, (height, width) = [], frames.shape[-2:]
    if metadata.total_num_frames == 1:
        faults.append(Fault(path, "one frame", "all its clips are the same picture"))
    if latest is not None and metadata.video_end is not None and metadata.video_end < latest:
        detail = f"it lasts {metadata.video_end:.2f} s, a question asks about {latest:.2f} s"
        faults.append(Fault(path, "shorter than a span", detail))
    if max(width / height, height / width) > MAX_ASPECT_RATIO:
        faults.append(Fault(path, "extreme aspect ratio", f"{width} x {height} pixels"))
    return faults


def distinct_videos(questions: list[VideoQuestion]) -> list[Video]:
    """Returns the videos of the rows, each once, with the latest second that is asked about."""
    latest: dict[tuple[str, bytes | None], float | None] = {}
    for question in questions:
        video = question.video, question.video_bytes
        times = [time for time in (latest.get(video), question.start, question.end) if time is not None]
        latest[video] = max(times, default=None)
    return [Video(path, time, data) for (path, data), time in latest.items()]


def check_videos(videos: Sequence[Video], workers: int, timeout: float = TIMEOUT) -> Iterator[list[Fault]]:
    r"""
    Finds the faults of each video, in the order in which the checks end.

    Args:
        videos (`Sequence[Video]`): The videos.
        workers (`int`): Processes. One that a video kills is replaced.
        timeout (`float`, *optional*, defaults to 300): Seconds that a video may take.
    """
    for video, result in in_separate_processes(check_video, videos, workers, timeout):
        if isinstance(result, OSError):
            fault = "takes too long" if isinstance(result, TimeoutError) else "kills its decoder"
            result = [Fault(video.path, fault, str(result))]
        yield result
