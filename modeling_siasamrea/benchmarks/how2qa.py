"""
How2QA: multiple-choice questions about spans of instructional videos.

- Source: L. Li et al., "HERO: Hierarchical Encoder for Video+Language Omni-representation Pre-training", EMNLP 2020.
  Files `how2QA_{train,val,test_public}_release.csv`: no header, seven columns `video, [start:end], wrong, wrong,
  wrong, question, correct`, times in seconds of the whole video. Also the second release of the VALUE benchmark,
  `how2qa_{train,val,test_public}_release.jsonl`: `a0..a3, answer_idx, q, qid, ts, vid_name`, times within a clip of
  60 s.
- Splits: train and validation (2 852 questions in the released file), and where there is its file the public part of
  the test questions; results are reported on validation.
- Task: multiple choice of 4. The correct answer comes last in the file, so the candidates are shuffled, with a seed
  that depends on the row alone (decision). "None" is a candidate like any other.
- Metric: accuracy.
- Videos: `{video}.mp4`; for VALUE `{vid_name}.mp4`, the clip.
"""

import hashlib
import random
import re
from pathlib import Path

from ..data.tables import read_cells
from .official_files import VideoFolder, annotation_file, read_rows, short_name, whole_number


SECONDS = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
SPAN, CLIP_SPAN = re.compile(rf"\[{SECONDS}:{SECONDS}\]"), re.compile(rf"{SECONDS}-{SECONDS}")


def shuffled(candidates: list[str], correct: int, key: str) -> tuple[list[str], int]:
    """Shuffles the candidates in an order that depends on `key` alone, and gives the correct one's new place."""
    order = list(range(len(candidates)))
    random.Random(hashlib.blake2b(key.encode(), digest_size=8).digest()).shuffle(order)
    return [candidates[place] for place in order], order.index(correct)


def read_first_release(path: Path, folder: VideoFolder, split: str) -> list[dict]:
    """Reads the comma-separated files."""
    rows = []
    for number, columns in enumerate(read_cells(path)):
        if len(columns) != 7:
            raise ValueError(f"{path}, row {number + 1}: seven columns are expected; it has {len(columns)}.")
        video, span, *wrong, question, correct = columns
        times = SPAN.fullmatch(span.strip())
        if times is None:
            raise ValueError(f"{path}, row {number + 1}: {span!r} is no span such as [7.2:18.0].")
        question_id = f"{split}_{number}"
        candidates, answer = shuffled([*wrong, correct], 3, f"how2qa/{question_id}")
        rows.append(
            {
                "video": folder.find([video], f"{video}.mp4"),
                "question": question,
                "answer": answer,
                "candidates": candidates,
                "as_published": True,
                "task": "multiple_choice",
                "start": float(times[1]),
                "end": float(times[2]),
                "question_id": question_id,
            }
        )
    return rows


def read_second_release(path: Path, folder: VideoFolder) -> list[dict]:
    """Reads VALUE's files, whose candidates are in random order already."""
    rows = []
    columns = ("a0", "a1", "a2", "a3", "answer_idx", "q", "qid", "ts", "vid_name")
    for number, row in enumerate(read_rows(path, *columns), start=1):
        where, span = f"{path}, row {number}", row["ts"]
        times = CLIP_SPAN.fullmatch("-".join(map(str, span)) if isinstance(span, list) else str(span))
        if times is None:
            raise ValueError(f"{where}: {span!r} is no span such as '7.2-18.0'.")
        rows.append(
            {
                "video": folder.find([row["vid_name"]], f"{row['vid_name']}.mp4"),
                "question": row["q"],
                "answer": whole_number(row["answer_idx"], 3, "answer_idx", where),
                "candidates": [str(row[f"a{place}"]) for place in range(4)],
                "as_published": True,
                "task": "multiple_choice",
                "start": float(times[1]),
                "end": float(times[2]),
                "question_id": str(row["qid"]),
            }
        )
    return rows


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    short = short_name(split)
    official = "test_public" if split == "test" else short
    names = [f"how2QA_{official}_release.csv", f"how2qa_{official}_release.jsonl", f"how2qa_{official}.jsonl"]
    path, folder = annotation_file(annotations, *names), VideoFolder(videos)
    second = path.suffix.lower() == ".jsonl"
    return read_second_release(path, folder) if second else read_first_release(path, folder, short)
