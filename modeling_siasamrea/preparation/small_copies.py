"""Makes small copies of videos that decode fast, with the same frames at the same times."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from tqdm import tqdm

from ..data.workers import end_with_parent
from ..processors.frame_index import frame_index
from ..processors.video_decoding import VIDEO_SUFFIXES, VideoDecodingError, frames_from_the_start, turned


def new_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the shorter side at `short_side` pixels at most, both even."""
    scale = min(1.0, short_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def prepare_video(source: Path, target: Path, short_side: int, group: int, crf: int) -> str | None:
    r"""
    Writes the fast copy of a video.

    Args:
        source (`Path`): The video.
        target (`Path`): Where the copy goes, an mp4 file.
        short_side (`int`): The most pixels of the shorter side.
        group (`int`): Frames from one key frame to the next.
        crf (`int`): H.264's constant rate factor, lower is better.

    Returns:
        `str`, *optional*: why it failed; `None` if the copy is there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    try:
        _write_copy(source, unfinished, short_side, group, crf)
    except (VideoDecodingError, av.FFmpegError, OSError, ValueError) as error:
        unfinished.unlink(missing_ok=True)
        return getattr(error, "reason", " ".join(str(error).split())) or type(error).__name__
    os.replace(unfinished, target)
    return None


def _write_copy(source: Path, unfinished: Path, short_side: int, group: int, crf: int) -> None:
    options = {"crf": str(crf), "preset": "veryfast", "g": str(group), "bf": "0", "tune": "fastdecode"}
    index = frame_index(str(source), str(source))
    # Times in the unit of the file, with the first frame where it was.
    ticks = np.rint(index.times / float(index.tick)).astype(np.int64)
    ticks += 0 if index.pts is None else max(0, int(index.pts[0]))
    ticks = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))  # no two frames at one time
    rate = Fraction(index.fps).limit_denominator(60000)
    with av.open(str(unfinished), "w", format="mp4") as copy:
        written = copy.add_stream("libx264", rate=max(rate, Fraction(1, 60000)), options=options)
        written.pix_fmt, written.codec_context.thread_count = "yuv420p", 1
        written.codec_context.time_base = index.tick
        reformatter = VideoReformatter()
        width, height = new_size(index.width, index.height, short_side)
        upright = (index.display_matrix == np.eye(2)).all()
        durations = [*np.diff(ticks).tolist(), round((index.duration - index.times[-1]) / float(index.tick))]

        def encoded() -> Iterator[av.Packet]:
            frames = frames_from_the_start(str(source), str(source), index, np.arange(len(ticks)))
            for number, frame in enumerate(frames):
                if upright:
                    small = reformatter.reformat(frame, width, height, "yuv420p")
                else:
                    planes = reformatter.reformat(frame, width, height, "yuv444p").to_ndarray()  # (3, height, width)
                    planes = turned(planes.transpose(1, 2, 0), index.display_matrix).transpose(2, 0, 1)
                    small = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv444p")
                if number == 0:
                    written.width, written.height = small.width, small.height
                small.pts, small.time_base = int(ticks[number]), index.tick
                yield from written.encode(small)
            yield from written.encode()

        for packet, duration in zip(encoded(), durations):
            packet.duration = duration
            copy.mux(packet)


def _in_workers(
    work: Callable[[Path, Path], str | None], todo: dict[Path, Path], workers: int
) -> Iterator[tuple[Path, str | None]]:
    """Each video and why it failed. A video that ends its worker fails alone: the others go on in new workers."""
    left = list(todo)
    while left:
        with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
            running = {pool.submit(work, path, todo[path]): path for path in left}
            try:
                for done in as_completed(running):
                    result = done.result()
                    left.remove(running[done])
                    yield running[done], result
            except BrokenProcessPool:
                pass
            finally:
                pool.shutdown(cancel_futures=True)
        for path in left[: 2 * workers + 1]:  # among those is the one that ended its worker: each in a worker alone
            with ProcessPoolExecutor(1, initializer=end_with_parent) as alone:
                try:
                    result = alone.submit(work, path, todo[path]).result()
                except BrokenProcessPool:
                    result = "its decoder ends the whole process"
            yield path, result
        left = left[2 * workers + 1 :]


def prepare_videos(
    source: str | Path, target: str | Path, short_side: int = 256, group: int = 8, crf: int = 20, workers: int = 2
) -> list[dict[str, str]]:
    r"""
    Copies a folder of videos with its subfolders.

    Args:
        source (`str` or `Path`): The folder.
        target (`str` or `Path`): The new folder; copies get the suffix .mp4.
        short_side (`int`, *optional*, defaults to 256): The most pixels of the shorter side.
        group (`int`, *optional*, defaults to 8): Frames from one key frame to the next.
        crf (`int`, *optional*, defaults to 20): H.264's constant rate factor.
        workers (`int`, *optional*, defaults to 2): Processes.

    Returns:
        `list[dict[str, str]]`: `video` and `error` of each that failed, also in `failures.jsonl`.

    Raises:
        `ValueError`: If the folder has no videos, or two of them differ in nothing but their suffix.
    """
    source, target = Path(source), Path(target)
    found = (path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    videos = sorted(
        path for path in found if not path.resolve().is_relative_to(target.resolve())
    )  # no copies of copies
    if not videos:
        raise ValueError(f"The folder {source} has no videos ({', '.join(VIDEO_SUFFIXES)}).")
    targets = {}
    for path in videos:
        copy = target / path.relative_to(source).with_suffix(".mp4")
        if copy in targets:
            raise ValueError(f"{targets[copy]} and {path} would both become {copy}; rename one of them.")
        targets[copy] = path
    todo = {path: copy for copy, path in targets.items() if not copy.exists()}
    failures = []
    work = partial(prepare_video, short_side=short_side, group=group, crf=crf)
    for path, error in tqdm(_in_workers(work, todo, workers), total=len(todo), desc="Preparing videos", unit="video"):
        if error is not None:
            failures.append({"video": str(path.relative_to(source)), "error": error})
    failures.sort(key=lambda failure: failure["video"])
    target.mkdir(parents=True, exist_ok=True)
    (target / "failures.jsonl").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    return failures


__all__ = ["prepare_video", "prepare_videos"]
