"""Checks videos, each in a process that may die of it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import numpy as np

from ..data.questions import VideoQuestion
from ..data.workers import end_with_parent
from ..processors.video_decoding import FrameTimes, VideoDecodingError, decode_frames
from ..processors.video_source import absolute_path


TIMEOUT = 300.0  # seconds that a video may take to be checked
MAX_ASPECT_RATIO = 4.0
# Videos with these faults go to the skip list.
UNUSABLE = ("missing", "unreadable", "no frames", "kills its decoder", "takes too long")
VIDEOS_PER_PROCESS = 500  # then a worker starts anew, so that a decoder's leaks do not add up


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


def check_video(video: Video) -> list[Fault]:
    r"""
    What is wrong with a video.

    Args:
        video (`Video`): Its path, and the latest start or end of its questions in seconds.

    Returns:
        `list[Fault]`: `missing`, `unreadable` (with the decoder's reason), `no frames`, `one frame`,
        `shorter than a span` or `extreme aspect ratio`; empty for a good video.
    """
    if video.data is None and "://" not in video.path and not os.path.exists(absolute_path(video.path)):
        return [Fault(video.path, "missing", "there is no such file")]
    seen: list[FrameTimes] = []

    def first_middle_last(metadata: FrameTimes) -> np.ndarray:
        seen.append(metadata)
        return np.unique([0, metadata.total_num_frames // 2, metadata.total_num_frames - 1])

    try:
        frames, _ = decode_frames(video.data or video.path, first_middle_last)
    except VideoDecodingError as error:
        return [Fault(video.path, "no frames" if "no frames" in error.reason else "unreadable", error.reason)]
    metadata, (height, width) = seen[-1], frames.shape[-2:]
    faults = []
    if metadata.total_num_frames == 1:
        faults.append(Fault(video.path, "one frame", "all its clips are the same picture"))
    if video.latest is not None and metadata.video_end is not None and metadata.video_end < video.latest:
        detail = f"it lasts {metadata.video_end:.2f} s, a question asks about {video.latest:.2f} s"
        faults.append(Fault(video.path, "shorter than a span", detail))
    if max(width / height, height / width) > MAX_ASPECT_RATIO:
        faults.append(Fault(video.path, "extreme aspect ratio", f"{width} x {height} pixels"))
    return faults


def distinct_videos(questions: list[VideoQuestion]) -> list[Video]:
    """The videos of the rows, each once, with the latest second that is asked about."""
    latest: dict[tuple[str, bytes | None], float | None] = {}
    for question in questions:
        video = question.video, question.video_bytes
        times = [time for time in (latest.get(video), question.start, question.end) if time is not None]
        latest[video] = max(times, default=None)
    return [Video(path, time, data) for (path, data), time in latest.items()]


def serve(connection: Connection) -> None:
    """What a worker does: check the videos that it is sent, until the process that sends them is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process ends the others
    end_with_parent()
    while True:
        connection.send(check_video(connection.recv()))


class Worker:
    """A process that checks one video at a time, so that it is known which one it died of."""

    def __init__(self):
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()  # only the worker holds it, so that its death shows
        self.checked = 0

    def begin(self, video: Video, timeout: float) -> None:
        """Sends the next video."""
        self.video, self.timeout, self.deadline = video, timeout, time.monotonic() + timeout
        self.checked += 1
        self.connection.send(video)

    def finish(self) -> list[Fault] | None:
        """The faults of its video, `None` while it is being checked. A worker that died or took too long is ended."""
        if self.connection.poll():
            try:
                return self.connection.recv()
            except (EOFError, OSError):
                self.end()
                code = self.process.exitcode
                how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
                return [Fault(self.video.path, "kills its decoder", f"the process that read it ended {how}")]
        if time.monotonic() < self.deadline:
            return None
        self.end()
        return [Fault(self.video.path, "takes too long", f"it was not read within {self.timeout:g} s")]

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def check_videos(videos: Sequence[Video], workers: int, timeout: float = TIMEOUT) -> Iterator[list[Fault]]:
    r"""
    The faults of each video as they are found, in no order.

    Args:
        videos (`Sequence[Video]`): The videos.
        workers (`int`): Processes. One that a video kills is replaced.
        timeout (`float`, *optional*, defaults to 300): Seconds that a video may take.
    """
    waiting, idle, busy = list(reversed(videos)), [], []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                busy.append(idle.pop() if idle else Worker())
                busy[-1].begin(waiting.pop(), timeout)
            next_deadline = min(worker.deadline for worker in busy)
            wait([worker.connection for worker in busy], max(0.0, next_deadline - time.monotonic()))
            for worker in list(busy):
                faults = worker.finish()
                if faults is None:
                    continue
                busy.remove(worker)
                if worker.checked == VIDEOS_PER_PROCESS:
                    worker.end()
                if not worker.connection.closed:
                    idle.append(worker)
                yield faults
    finally:
        for worker in idle + busy:
            worker.end()


__all__ = ["Fault", "Video", "check_video", "check_videos"]
