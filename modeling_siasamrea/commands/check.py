"""`siasamrea check`: opens the videos of a data set, each in a process that may die of it."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from ..benchmarks import SPLITS, load_benchmark
from ..configuration_siasamrea import did_you_mean
from ..data.folder_files import walk_files
from ..data.questions import VideoQuestion, load_video_questions
from ..data.tables import SUFFIXES
from ..data.unlabelled_rows import name_unlabelled
from ..preparation.check_videos import UNUSABLE, Video, check_videos, distinct_videos
from ..processors.video_decoding import VIDEO_SUFFIXES
from .parser import add_work_arguments, parser_for, user_path


def load_rows(name: str, annotations: str | None, videos: str | None) -> list[VideoQuestion]:
    """Loads the rows of a file, or of those splits of a benchmark that are there."""
    if name not in SPLITS:
        if not Path(name).exists():
            did_you_mean("The list of benchmarks", [name], SPLITS, cutoff=0.6)
        return load_video_questions(name, videos, require_answers=False)
    if annotations is None:
        raise ValueError(f"The benchmark {name} needs --annotations, the folder of its files.")
    rows, missing = [], {}
    for split in SPLITS[name]:
        try:
            rows += load_video_questions(load_benchmark(name, annotations, videos, split), require_answers=False)
        except ValueError as error:
            missing[split] = str(error)
    if not rows:
        raise ValueError(" ".join(dict.fromkeys(missing.values())))
    for split, reason in missing.items():
        print(f"Not checked: {split}: {reason}")
    return rows


def main(argv: Sequence[str] | None = None) -> Counter:
    """Command line; returns how many videos have each fault."""
    given = check_arguments(argv)
    folder, rows = given.videos, []
    if Path(given.source).is_dir() and not any(walk_files(given.source, SUFFIXES)):
        folder = given.source
        videos = [Video(path, None) for path in walk_files(folder, VIDEO_SUFFIXES)]
        if not videos:
            raise ValueError(f"The folder {folder} has neither videos nor files of rows.")
    else:
        rows = load_rows(given.source, given.annotations, folder)
        videos = sorted(distinct_videos(rows), key=lambda video: (video.path, video.data or b""))
    number, count = given.shard
    videos = videos[number - 1 :: count]
    given.output.mkdir(parents=True, exist_ok=True)
    counts: Counter = Counter()
    report, skip_list = given.output / "report.jsonl", given.output / "skip_list.jsonl"
    with open(report, "w", encoding="utf-8") as report_file, open(skip_list, "w", encoding="utf-8") as skip_file:
        checked = check_videos(videos, given.workers)
        for fault in chain.from_iterable(tqdm(checked, total=len(videos), desc="Checking", unit="video")):
            counts[fault.fault] += 1
            path = fault.video if folder is None or "://" in fault.video else os.path.relpath(fault.video, folder)
            report_file.write(json.dumps(fault._replace(video=path)._asdict(), ensure_ascii=False) + "\n")
            if fault.fault in UNUSABLE:
                skip_file.write(json.dumps({"video": path, "error": fault.detail}, ensure_ascii=False) + "\n")
    print(f"Videos: {len(videos)}" + (f", questions: {len(rows)}" if rows else ""))
    unlabelled = name_unlabelled(rows)
    if unlabelled is not None:
        print(f"{unlabelled}.")
    for fault, of_fault in counts.most_common():
        print(f"{fault}: {of_fault}")
    print(f"Report: {report}; for --skip_list: {skip_list}")
    if videos and counts["missing"] == len(videos):
        raise ValueError("All videos are missing: --videos must be the folder that the paths of the rows start from.")
    return counts


def check_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Checks the videos of a folder, of your own rows or of a benchmark, before a long run.

        siasamrea check videos
        siasamrea check train.jsonl --videos videos --output report
        siasamrea check msvd_qa --annotations annotations/msvd_qa --videos videos/msvd

    Each video is opened, and its first, middle and last frame are decoded, in a process that may die of it.
    `report.jsonl` has a line for each fault, `skip_list.jsonl` the videos that cannot be used, which a training run
    with `--skip_list` leaves out. A bad video is a finding: the exit code is 0, unless all videos are missing (2).
    """
    parser = parser_for(check_arguments)
    source = f"a folder of videos, a file of rows, or a benchmark: {', '.join(SPLITS)}"
    parser.add_argument("source", type=os.path.expanduser, help=source)
    parser.add_argument("--annotations", type=os.path.expanduser, help="folder of the benchmark's annotation files")
    parser.add_argument("--videos", type=os.path.expanduser, help="folder of the videos")
    parser.add_argument(
        "--output", type=user_path, default="data_check", help="folder of the report; default: %(default)s"
    )
    add_work_arguments(parser, "check", "the reports of all are joined by cat")
    given = parser.parse_args(argv)
    if given.videos is not None and not Path(given.videos).is_dir():
        parser.error(f"The video folder {given.videos} does not exist.")
    return given
