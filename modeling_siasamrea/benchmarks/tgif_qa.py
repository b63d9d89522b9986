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
from pathlib import Path

from ..data.tables import read_csv
from .official_files import VideoFolder, annotation_file, check_rows, choice_row, clipbert_rows, whole_number


FRAMEQA_TYPES = ("object", "number", "color", "location")
COUNT_RANGE = (1, 10)  # official: predictions are clipped to it, and the answer 0 counts as 1
CHOICES = ("a1", "a2", "a3", "a4", "a5")
TASKS = {"action": "multiple_choice", "transition": "multiple_choice", "frameqa": "open_ended", "count": "count"}


def held_out(gif_name: str) -> bool:
    """Returns whether a training GIF belongs to the validation split."""
    return int.from_bytes(hashlib.blake2b(f"tgif_qa/{gif_name}".encode(), digest_size=8).digest(), "big") % 10 == 0


def read_official(path: Path, folder: VideoFolder, name: str) -> list[dict]:
    """Reads the authors' tab-separated files."""
    columns = CHOICES if name in ("action", "transition") else ("type",) if name == "frameqa" else ()
    official = read_csv(path, delimiter="\t", quoting=csv.QUOTE_NONE)
    rows = []
    for where, row in check_rows(path, official, "gif_name", "question", "answer", "vid_id", *columns):
        answer, cells = row["answer"], {"video": folder.find(f"{row['gif_name']}.gif"), "question": row["question"]}
        cells |= {"question_id": row["vid_id"], "task": TASKS[name]}
        if name == "frameqa":
            kind = whole_number(row["type"], len(FRAMEQA_TYPES) - 1, "type", where)
            cells |= {"answer": answer, "question_type": FRAMEQA_TYPES[kind]}
        elif name == "count":
            cells |= {"answer": whole_number(answer, 10, "answer", where)}  # 10 is "10 or more"
        else:
            answer = whole_number(answer, len(CHOICES) - 1, "answer", where)
            cells |= choice_row(row["question"], [row[choice] for choice in CHOICES], answer, where)
            cells |= {"question_type": name}
        rows.append(cells)
    return rows


def load_rows(name: str, annotations: Path, folder: VideoFolder, split: str) -> list[dict]:
    """Reads the rows of a split of the task `name`, see [`load_benchmark`]."""
    short = "test" if split == "test" else "train"
    official = f"{short.capitalize()}_{name}_question.csv"
    path = annotation_file(annotations, official, f"{name}_{short}.jsonl", f"{short}_{name}.jsonl")
    if path.suffix.lower() == ".jsonl":
        rows = clipbert_rows(path, folder, TASKS[name], ".gif")
    else:
        rows = read_official(path, folder, name)
    if split != "test":
        rows = [row for row in rows if held_out(Path(row["video"]).stem) == (split == "validation")]
    return [row | {"count_range": COUNT_RANGE} for row in rows] if name == "count" else rows
