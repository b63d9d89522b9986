"""
ActivityNet-QA: open-ended questions about 5 800 long videos (180 s on average).

- Source: Z. Yu et al., "ActivityNet-QA: A Dataset for Understanding Complex Web Videos via Question Answering", AAAI
  2019; https://github.com/MILVLG/activitynet-qa. Files `{train,val,test}_q.json` and `_a.json`, joined by question_id.
- Splits: 32 000 training, 18 000 validation and 8 000 test questions about 3 200, 1 800 and 800 videos.
- Task: open-ended; vocabulary of the 1 000 most frequent training answers (decision; paper: the most frequent).
- Metric: accuracy, an answer outside the vocabulary is wrong; by the nine question types below. Questions have no "?".
- Videos: `v_{name}` with .mp4, .mkv or .webm; the annotations omit the `v_`, and names may start with - or _.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_file, read_rows, whole_number


TYPES = ("motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number", "other")


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, f"{split}_q.json")
    answer_path = path.with_name(re.sub(r"(?i)_q(?=\.json$)", "_a", path.name))
    if not answer_path.is_file() or answer_path == path:
        raise ValueError(f"The questions {path} need their answers in {split}_a.json beside them.")
    answers: dict[str, tuple[str, dict]] = {}
    for where, row in read_rows(answer_path, "question_id", "answer", "type"):
        if row["question_id"] in answers:
            raise ValueError(f"{where}: the question_id {row['question_id']!r} has an answer already.")
        answers[row["question_id"]] = where, row
    for _, row in read_rows(path, "question", "video_name", "question_id"):
        where, answer = answers[row["question_id"]]
        yield {
            "video": folder.find(f"v_{row['video_name']}.mp4", row["video_name"]),
            "question": row["question"],
            "answer": str(answer["answer"]),
            "task": "open_ended",
            "question_id": row["question_id"],
            "question_type": TYPES[whole_number(answer["type"], len(TYPES) - 1, "type", where)],
        }
