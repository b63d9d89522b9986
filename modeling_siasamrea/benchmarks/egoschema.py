"""
EgoSchema, the subset with public answers: long-term questions about three minutes of egocentric video.

- Source: K. Mangalam et al., "EgoSchema: A Diagnostic Benchmark for Very Long-form Video Language Understanding",
  NeurIPS 2023; https://github.com/egoschema/EgoSchema. Files `questions.json`, a list with `q_uid`, `question` and
  `option 0` to `option 4`, and `subset_answers.json`, from `q_uid` to the answer's index.
- Splits: validation is the subset of 500 questions with public answers, which results here are on; test is all
  5 031 questions, without answers, for the authors' server.
- Seen: the published `subset_answers.json`, which has 500 answers, and single rows of `questions.json`. Of the 5 031
  questions the hub's viewer of `lmms-lab/egoschema` confirms 5.03k.
- Task: multiple choice of 5.
- Metric: accuracy.
- Videos: `{q_uid}.mp4`.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_json
from .official_files import annotation_file, choice_row, read_rows


OPTIONS = tuple(f"option {place}" for place in range(5))


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, "questions.json")
    answers = read_json(annotation_file(path.parent, "subset_answers.json"), dict) if split == "val" else {}
    official = list(read_rows(path, "q_uid", "question", *OPTIONS))
    missing = answers.keys() - {row["q_uid"] for _, row in official}
    if missing:
        raise ValueError(f"{path} has no question {min(missing)}, which subset_answers.json answers.")
    for where, row in official:
        if split == "test" or row["q_uid"] in answers:
            yield {
                "video": folder.find(f"{row['q_uid']}.mp4"),
                "question_id": row["q_uid"],
                **choice_row(row["question"], [row[name] for name in OPTIONS], answers.get(row["q_uid"]), where),
            }
