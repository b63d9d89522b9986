"""
MMVU, multiple choice: questions of experts in 27 subjects, which need knowledge beside the video.

- Source: Y. Zhao et al., "MMVU: Measuring Expert-Level Multi-Discipline Video Understanding", CVPR 2025;
  https://github.com/yale-nlp/MMVU. File `data/validation.json`, a list; the test answers are not public.
- Split: validation only, 625 multiple-choice questions; the other 375 of its 1 000 are open-ended and need a judge.
  They are left out, and a warning counts them.
- Seen: the published file, whose 625 and 375 rows are counted.
- Task: multiple choice of 5, the answer's letter.
- Metric: accuracy, by subject.
- Videos: `{subject}/{number}.mp4`, the end of the published address; without a folder of videos, the address itself.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_file, choice_row, letter_index, logger, read_rows


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, "data/validation.json")
    official = read_rows(path, "id", "video", "question_type", "question", "choices", "answer", "metadata")
    left_out = 0
    for where, row in official:
        if row["question_type"] != "multiple-choice":
            left_out += 1
            continue
        answer = letter_index(row["answer"], where)
        yield {
            "video": folder.find("/".join(row["video"].split("/")[-2:])) if folder.folder else row["video"],
            "question_id": row["id"],
            "question_type": row["metadata"]["subject"],
            **choice_row(row["question"], list(row["choices"].values()), answer, where),
        }
    logger.warning(f"MMVU: open-ended questions left out: {left_out}.")
