"""`siasamrea check`: opens the videos of a data set, each in a process that may die of it."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..benchmarks import SPLITS, load_benchmark
from ..configuration_siasamrea import did_you_mean
from ..data.questions import VideoQuestion, load_video_questions
from ..data.unlabelled_rows import name_unlabelled
from ..preparation.check_videos import TIMEOUT, UNUSABLE, check_videos, distinct_videos
from .parser import add_work_arguments, parser_for, user_path


def load_rows(name: str, annotations: str | None, videos: str | None, splits: list[str]) -> list[VideoQuestion]:
    """Loads the rows of a file, or of those splits of a benchmark that are there."""
    if name not in SPLITS:
        if not Path(name).exists():
            did_you_mean("The list of benchmarks", [name], SPLITS, cutoff=0.6)
        return load_video_questions(name, videos, require_answers=False)
    if annotations is None:
        raise ValueError(f"The benchmark {name} needs --annotations, the folder of its files.")
    rows, missing = [], []
    for split in splits:
        try:
            rows += load_video_questions(load_benchmark(name, annotations, videos, split), require_answers=False)
        except ValueError as error:
            missing.append(f"{split}: {error}")
    if not rows:
        raise ValueError(" ".join(missing))
    for reason in missing:
        print(f"Not checked: {reason}")
    return rows


def relative(path: str, videos: str | None) -> str:
    """Returns a video's path from the video folder, as annotation rows name it."""
    return path if videos is None or "://" in path else os.path.relpath(path, videos)


def main(argv: Sequence[str] | None = None) -> Counter:
    """Command line; returns how many videos have each fault."""
    arguments = check_arguments(argv)
    rows = load_rows(arguments.name, arguments.annotations, arguments.videos, arguments.splits)

    number, count = arguments.shard
    videos = sorted(distinct_videos(rows), key=lambda video: (video.path, video.data or b""))[number - 1 :: count]
    arguments.output.mkdir(parents=True, exist_ok=True)
    counts: Counter = Counter()
    report, skip_list = arguments.output / "report.jsonl", arguments.output / "skip_list.jsonl"
    with open(report, "w", encoding="utf-8") as report_file, open(skip_list, "w", encoding="utf-8") as skip_file:
        checked = check_videos(videos, arguments.workers, arguments.timeout)
        for faults in tqdm(checked, total=len(videos), desc="Checking", unit="video"):
            for fault in faults:
                counts[fault.fault] += 1
                named = fault._replace(video=relative(fault.video, arguments.videos))
                report_file.write(json.dumps(named._asdict(), ensure_ascii=False) + "\n")
                if fault.fault in UNUSABLE:
                    skipped = {"video": named.video, "error": fault.detail}
                    skip_file.write(json.dumps(skipped, ensure_ascii=False) + "\n")
    print(f"{len(rows)} questions about {len(videos)} videos.")
    unlabelled = name_unlabelled(rows)
    if unlabelled is not None:
        print(f"{unlabelled}.")
    for fault, count in counts.most_common():
        print(f"{count} videos: {fault}")
    if videos and counts["missing"] == len(videos):
        print("All videos are missing: --videos must be the folder that the paths of the rows start from.")
    print(f"Report: {report}; for --skip_list: {skip_list}")
    return counts


def check_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Checks the videos of a benchmark, or of your own rows, before a long run.

        siasamrea check msvd_qa --annotations annotations/msvd_qa --videos videos/msvd
        siasamrea check train.jsonl --videos videos --output report

    Each video is opened, and its first, middle and last frame are decoded, in a process that may die of it.
    `report.jsonl` has a line for each fault, `skip_list.jsonl` the videos that cannot be used, which a training run
    with `--skip_list` leaves out.
    """
    splits = ("train", "validation", "test")
    parser = parser_for(check_arguments)
    parser.add_argument(
        "name",
        type=os.path.expanduser,
        help=f"a file of rows, or a benchmark: {', '.join(SPLITS)}",
    )
    parser.add_argument("--annotations", type=os.path.expanduser, help="folder of the benchmark's annotation files")
    parser.add_argument("--videos", type=os.path.expanduser, help="folder of the videos")
    parser.add_argument("--splits", nargs="+", choices=splits, default=splits, help="default: all that are there")
    parser.add_argument("--output", type=user_path, default=Path("data_check"), help="folder of the report")
    add_work_arguments(parser, "check", "the reports of all are joined by cat")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds per video; default: %(default)s")
    given = parser.parse_args(argv)
    if not given.timeout > 0:
        parser.error(f"--timeout must be above 0; got {given.timeout}.")
    if given.videos is not None and not Path(given.videos).is_dir():
        parser.error(f"The video folder {given.videos} does not exist.")
    return given


__all__ = ["main"]
