"""
TGIF-QA: four tasks about animated GIFs.

- Source: Y. Jang et al., "TGIF-QA: Toward Spatio-Temporal Reasoning in Visual Question Answering", CVPR 2017;
  https://github.com/YunseokJANG/tgif-qa. Files `{Train,Test}_{action,transition,frameqa,count}_question.csv`:
  tab-separated, CRLF, no quoting; `vid_id` is the question's id and `key` the video's number. Also ClipBERT's jsonl.
- Splits: no official validation. 10 % of the training GIFs are held out, chosen by a hash of their name, the same for
  all four tasks (decision). Training and test rows as the paper counts them: action 20 475 and 2 274, transition
  52 704 and 6 232, frameqa 39 392 and 13 691, count 26 843 and 3 554; the released training files have a few fewer.
- Tasks: action and transition are multiple choice of 5; the answer is the index of a1 to a5, from 0. frameqa is
  open-ended with all training answers as its vocabulary (decision), of the types object, number, color and location.
  count is a number, 0 or 2 to 10.
- Metrics: accuracy; for counts the mean squared error of the prediction, rounded and clipped to 1 to 10, against the
  answer, at least 1 (official), and the error of the raw numbers.
- Videos: `{gif_name}.gif`; some that are still to be had are a single frame.
"""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_csv
from .official_files import annotation_file, choice_row, read_rows, whole_number


FRAMEQA_TYPES = ("object", "number", "color", "location")
COUNT_RANGE = (1, 10)  # official: predictions are clipped to it, and the answer 0 counts as 1
CHOICES = ("a1", "a2", "a3", "a4", "a5")
TASKS = {"action": "multiple_choice", "transition": "multiple_choice", "frameqa": "open_ended", "count": "count"}


def held_out(gif_name: str) -> bool:
    """Returns whether a training GIF belongs to the validation split."""
    return int.from_bytes(hashlib.blake2b(f"tgif_qa/{gif_name}".encode(), digest_size=8).digest(), "big") % 10 == 0


def read_official(path: Path, name: str) -> Iterator[tuple[str, dict]]:
    """Reads the authors' tab-separated files, with the names of ClipBERT's columns."""
    columns = CHOICES if TASKS[name] == "multiple_choice" else ("type",) if name == "frameqa" else ()
    official = read_csv(path, delimiter="\t", quoting=csv.QUOTE_NONE)
    for where, row in read_rows(path, "gif_name", "question", "answer", "vid_id", *columns, rows=official):
        row["question_id"] = row["vid_id"]
        if name == "frameqa":
            row["answer_type"] = FRAMEQA_TYPES[whole_number(row["type"], len(FRAMEQA_TYPES) - 1, "type", where)]
        elif name == "count":
            row["answer"] = whole_number(row["answer"], 10, "answer", where)  # 10 is "10 or more"
        else:
            row["answer"] = whole_number(row["answer"], len(CHOICES) - 1, "answer", where)
            row |= {"options": [row[choice] for choice in CHOICES], "answer_type": name}
        yield where, row


def load_rows(annotations: Path, folder: FolderFiles, split: str, name: str) -> Iterator[dict]:
    """Reads the rows of a split of the task `name`, see [`load_benchmark`]."""
    short = "test" if split == "test" else "train"
    official = f"{short.capitalize()}_{name}_question.csv"
    path = annotation_file(annotations, official, f"{name}_{split}.jsonl", f"{split}_{name}.jsonl")
    of_clipbert = path.suffix.lower() == ".jsonl"
    rows = read_rows(path, "gif_name", "question", "answer") if of_clipbert else read_official(path, name)
    for place, (where, row) in enumerate(rows):
        if split != "test" and held_out(row["gif_name"]) != (split == "val"):
            continue
        cells = {"video": folder.find(f"{row['gif_name']}.gif"), "question_id": str(row.get("question_id", place))}
        cells |= {"question": row["question"], "answer": row["answer"], "task": TASKS[name]}
        cells |= {"question_type": row.get("answer_type")}
        if name == "count":
            cells |= {"count_range": COUNT_RANGE}
        if "options" in row:
            cells |= choice_row(row["question"], row["options"], row["answer"], where)
        yield cells
