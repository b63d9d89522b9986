"""
Checks the videos of a benchmark, or of your own rows, before a run needs them at night.

    python examples/check_data.py msvd_qa --annotations annotations/msvd_qa --videos videos/msvd
    python examples/check_data.py train.jsonl --videos videos --output report

Each video is opened, and its first, middle and last frame are decoded. `report.jsonl` has a line for each fault,
`skip_list.jsonl` the videos that cannot be used, which `run_videoqa.py --skip_list` leaves out in training.
"""

import argparse
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm
from transformers.video_utils import VideoMetadata

from ..annotations_siasamrea import VideoQuestion, load_video_questions
from ..benchmarks import LOADERS, SPLITS, load_benchmark
from ..processors.video_decoding import VideoDecodingError, decode_frames


MAX_ASPECT_RATIO = 4.0
UNUSABLE = ("missing", "unreadable", "no frames")  # these videos go to the skip list
VIDEOS_PER_PROCESS = 500  # then a worker starts anew, so that a decoder's leaks do not add up


class Video(NamedTuple):
    """A video to check, and the latest second that a question asks about."""

    path: str
    latest: float | None


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
    if not os.path.exists(video.path):
        return [Fault(video.path, "missing", "there is no such file")]
    seen: list[VideoMetadata] = []

    def first_middle_last(metadata: VideoMetadata) -> np.ndarray:
        seen.append(metadata)
        return np.unique([0, metadata.total_num_frames // 2, metadata.total_num_frames - 1])

    try:
        frames, _ = decode_frames(video.path, first_middle_last)
    except VideoDecodingError as error:
        return [Fault(video.path, "no frames" if "no frames" in error.reason else "unreadable", error.reason)]
    metadata, (height, width) = seen[-1], frames.shape[-2:]
    faults = []
    if metadata.total_num_frames == 1:
        faults.append(Fault(video.path, "one frame", "all its clips are the same picture"))
    if video.latest is not None and metadata.duration is not None and metadata.duration < video.latest:
        detail = f"it lasts {metadata.duration:.2f} s, a question asks about {video.latest:.2f} s"
        faults.append(Fault(video.path, "shorter than a span", detail))
    if max(width / height, height / width) > MAX_ASPECT_RATIO:
        faults.append(Fault(video.path, "extreme aspect ratio", f"{width} x {height} pixels"))
    return faults


def distinct_videos(questions: list[VideoQuestion]) -> list[Video]:
    """The videos of the rows, each once, with the latest second that is asked about."""
    latest: dict[str, float | None] = {}
    for question in questions:
        times = [time for time in (latest.get(question.video), question.start, question.end) if time is not None]
        latest[question.video] = max(times, default=None)
    return [Video(path, time) for path, time in latest.items()]


def check_videos(videos: list[Video], workers: int) -> Iterator[list[Fault]]:
    """The faults of each video as they are found, in no order."""
    with multiprocessing.Pool(workers, maxtasksperchild=VIDEOS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(check_video, videos)


def load_rows(name: str, annotations: str | None, videos: str | None, splits: list[str]) -> list[VideoQuestion]:
    """The rows of a benchmark's splits that are there, or of a file."""
    if name not in LOADERS:
        return load_video_questions(name, videos, require_answers=False)
    if annotations is None:
        raise ValueError(f"The benchmark {name} needs --annotations, the folder of its files.")
    rows, missing = [], []
    for split in splits:
        try:
            rows += load_video_questions(load_benchmark(name, annotations, videos, split))
        except ValueError as error:
            missing.append(f"{split}: {error}")
    if not rows:
        raise ValueError(" ".join(missing))
    for reason in missing:
        print(f"Not checked: {reason}")
    return rows


def relative(path: str, videos: str | None) -> str:
    """A video's path from the video folder, as annotation rows name it."""
    return path if videos is None else os.path.relpath(path, videos)


def main(argv: list[str] | None = None) -> Counter:
    """Command line; returns how many videos have each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"{', '.join(LOADERS)}, or a JSONL or CSV file of rows")
    parser.add_argument("--annotations", help="folder of the benchmark's annotation files")
    parser.add_argument("--videos", help="folder of the videos")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS, help="default: all that are there")
    parser.add_argument("--output", type=Path, default=Path("data_check"), help="folder of the report")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: one a core")
    arguments = parser.parse_args(argv)
    try:
        rows = load_rows(arguments.name, arguments.annotations, arguments.videos, arguments.splits)
    except ValueError as error:
        parser.exit(1, f"{error}\n")

    videos = distinct_videos(rows)
    arguments.output.mkdir(parents=True, exist_ok=True)
    counts: Counter = Counter()
    report, skip_list = arguments.output / "report.jsonl", arguments.output / "skip_list.jsonl"
    with open(report, "w", encoding="utf-8") as report_file, open(skip_list, "w", encoding="utf-8") as skip_file:
        progress = tqdm(check_videos(videos, arguments.workers), total=len(videos), desc="Checking", unit="video")
        for faults in progress:
            for fault in faults:
                counts[fault.fault] += 1
                named = fault._replace(video=relative(fault.video, arguments.videos))
                report_file.write(json.dumps(named._asdict(), ensure_ascii=False) + "\n")
                if fault.fault in UNUSABLE:
                    skip_file.write(json.dumps({"video": named.video, "error": fault.detail}) + "\n")
    print(f"{len(rows)} questions about {len(videos)} videos.")
    for fault, count in counts.most_common():
        print(f"{count} videos: {fault}")
    print(f"Report: {report}; for --skip_list: {skip_list}")
    return counts
