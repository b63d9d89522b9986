"""
TGIF-QA: four tasks about animated GIFs.

- Source: Y. Jang et al., "TGIF-QA: Toward Spatio-Temporal Reasoning in Visual Question Answering", CVPR 2017;
  https://github.com/YunseokJANG/tgif-qa. Files `{Train,Test}_{action,transition,frameqa,count}_question.csv`:
  tab-separated, CRLF, no quoting; `vid_id` is the question's id and `key` the video's number. Also ClipBERT's jsonl.
- Splits: no official validation. 10 % of the training GIFs are held out, chosen by a hash of their name, the same for
  all four tasks (decision). Training and test rows as the paper counts them: action 20 475 and 2 274, transition
  52 704 and 6 232, frameqa 39 392 and 13 691, count 26 843 and 3 554; the released training files have a few less.
- Tasks: action and transition are multiple choice of 5, answers index a1..a5 from zero. frameqa is open-ended with
  all training answers as its vocabulary (decision), types object, number, color and location. count is a number, 0
  or 2..10.
- Metrics: accuracy; for counts the mean squared error of the prediction rounded and clipped to 1..10 against the
  answer floored at 1 (official), and beside it the error of the raw numbers.
- Videos: `{gif_name}.gif`; some have one frame by now.
"""

import csv
import hashlib
from pathlib import Path

from ..data.tables import read_csv
from .official_files import VideoFolder, annotation_file, check_columns, clipbert_rows, whole_number


FRAMEQA_TYPES = ("object", "number", "color", "location")
COUNT_RANGE = (1, 10)  # official: predictions are clipped to it, and the answer 0 counts as 1
CHOICES = ("a1", "a2", "a3", "a4", "a5")
# Columns of whole numbers, and the largest of each: an index from zero, or "10 or more" times.
LARGEST = {
    "action": {"answer": len(CHOICES) - 1},
    "transition": {"answer": len(CHOICES) - 1},
    "frameqa": {"type": len(FRAMEQA_TYPES) - 1},
    "count": {"answer": 10},
}
CLIPBERT_TASKS = {
    "action": "multiple_choice",
    "transition": "multiple_choice",
    "frameqa": "open_ended",
    "count": "count",
}


def held_out(gif_name: str) -> bool:
    """Tells whether a training GIF belongs to our validation split."""
    return int.from_bytes(hashlib.blake2b(f"tgif_qa/{gif_name}".encode(), digest_size=8).digest(), "big") % 10 == 0


def read_rows(annotations: Path, videos: Path | None, split: str, name: str) -> tuple[list[dict], list[dict]]:
    """Reads the official rows of a split, and what all tasks share; ClipBERT's files give the latter alone."""
    short = "test" if split == "test" else "train"
    path = annotation_file(
        annotations,
        f"{short.capitalize()}_{name}_question.csv",
        f"{name}_{short}.jsonl",
        f"{short}_{name}.jsonl",
    )
    folder = VideoFolder(videos)
    if path.suffix.lower() == ".jsonl":
        rows = clipbert_rows(path, folder, CLIPBERT_TASKS[name], ".gif")
        stems = [Path(row["video"]).stem for row in rows]
        return [], [
            row for row, stem in zip(rows, stems) if split == "test" or held_out(stem) == (split == "validation")
        ]
    official = list(read_csv(path, delimiter="\t", quoting=csv.QUOTE_NONE))
    choices = CHOICES if CLIPBERT_TASKS[name] == "multiple_choice" else ()
    check_columns(path, official, "gif_name", "question", "answer", "vid_id", *choices, *LARGEST[name])
    for number, row in enumerate(official, start=1):
        row |= {
            column: whole_number(row[column], last, column, f"{path}, row {number}")
            for column, last in LARGEST[name].items()
        }
    if split != "test":
        official = [row for row in official if held_out(row["gif_name"]) == (split == "validation")]
    shared = [
        {
            "video": folder.find([row["gif_name"]], f"{row['gif_name']}.gif"),
            "question": row["question"],
            "question_id": row["vid_id"],
        }
        for row in official
    ]
    return official, shared


def load_choices(annotations: Path, videos: Path | None, split: str, name: str) -> list[dict]:
    """Reads the rows of the two multiple-choice tasks."""
    official, rows = read_rows(annotations, videos, split, name)
    for row, choices in zip(rows, official):
        row |= {"candidates": [choices[place] for place in CHOICES], "as_published": True}
        row |= {"answer": choices["answer"], "task": "multiple_choice", "question_type": name}
    return rows


def load_action_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of the action task, see [`load_benchmark`]."""
    return load_choices(annotations, videos, split, "action")


def load_transition_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of the transition task, see [`load_benchmark`]."""
    return load_choices(annotations, videos, split, "transition")


def load_frameqa_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of the frameqa task, see [`load_benchmark`]."""
    official, rows = read_rows(annotations, videos, split, "frameqa")
    for row, given in zip(rows, official):
        row |= {"answer": given["answer"], "task": "open_ended", "question_type": FRAMEQA_TYPES[given["type"]]}
    return rows


def load_count_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of the count task, see [`load_benchmark`]."""
    official, rows = read_rows(annotations, videos, split, "count")
    for row, given in zip(rows, official):
        row |= {"answer": given["answer"], "task": "count"}
    return [row | {"count_range": COUNT_RANGE} for row in rows]
