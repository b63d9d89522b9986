"""
How2QA: multiple-choice questions about spans of instructional videos.

- Source: L. Li et al., "HERO: Hierarchical Encoder for Video+Language Omni-representation Pre-training", EMNLP 2020.
  Files `how2QA_{train,val,test_public}_release.csv`: no header, seven columns `video, [start:end], wrong, wrong,
  wrong, question, correct`, times in seconds of the whole video. Also the second release of the VALUE benchmark,
  `how2qa_{train,val,test_public}_release.jsonl`: `a0..a3, answer_idx, q, qid, ts, vid_name`, times within a clip of
  60 s.
- Splits: train, validation (2 852 questions in the released file), and the public part of the test questions where
  its file is; results are reported on validation.
- Task: multiple choice of 4. The correct answer is the last in the file, so the candidates are shuffled with a seed
  that depends on the row only (decision). "None" is a candidate like any other.
- Metric: accuracy.
- Videos: `{video}.mp4`; for VALUE `{vid_name}.mp4`, the clip.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_csv
from .official_files import annotation_file, choice_row, read_rows, whole_number


SECONDS = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
SPAN = re.compile(rf"\[?{SECONDS}[-:,]{SECONDS}\]?")
FIRST_RELEASE = ("video", "span", "wrong 1", "wrong 2", "wrong 3", "question", "correct")
CHOICES = ("a0", "a1", "a2", "a3")


def span_cells(span: object, where: str) -> dict[str, float]:
    """Reads a span such as [7.2:18.0] or 7.2-18.0; raises a `ValueError` if it is none."""
    times = SPAN.fullmatch(str(span).strip())
    if times is None:
        raise ValueError(f"{where}: {span!r} is no span such as [7.2:18.0] or 7.2-18.0.")
    return {"start": float(times[1]), "end": float(times[2])}


def read_first_release(path: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the comma-separated files."""
    for number, (where, row) in enumerate(read_rows(path, rows=read_csv(path, columns=FIRST_RELEASE))):
        order, question_id = [0, 1, 2, 3], f"{split}_{number}"
        key = hashlib.blake2b(f"how2qa/{question_id}".encode(), digest_size=8).digest()
        random.Random(key).shuffle(order)
        choices = (row["wrong 1"], row["wrong 2"], row["wrong 3"], row["correct"])
        yield {
            "video": folder.find(f"{row['video']}.mp4"),
            "question_id": question_id,
            **span_cells(row["span"], where),
            **choice_row(row["question"], [choices[place] for place in order], order.index(3), where),
        }


def read_second_release(path: Path, folder: FolderFiles) -> Iterator[dict]:
    """Reads VALUE's files, whose candidates are in random order already."""
    for where, row in read_rows(path, *CHOICES, "answer_idx", "q", "qid", "ts", "vid_name"):
        answer = whole_number(row["answer_idx"], 3, "answer_idx", where)
        yield {
            "video": folder.find(f"{row['vid_name']}.mp4"),
            "question_id": str(row["qid"]),
            **span_cells(row["ts"], where),
            **choice_row(row["q"], [row[choice] for choice in CHOICES], answer, where),
        }


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    official = "test_public" if split == "test" else split
    names = [f"how2QA_{official}_release.csv", f"how2qa_{official}_release.jsonl", f"how2qa_{official}.jsonl"]
    path = annotation_file(annotations, *names)
    second = path.suffix.lower() == ".jsonl"
    return read_second_release(path, folder) if second else read_first_release(path, folder, split)
