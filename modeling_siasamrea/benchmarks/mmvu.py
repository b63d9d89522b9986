"""
MMVU, multiple choice: questions of experts in 27 subjects, which need knowledge beside the video.

- Source: Y. Zhao et al., "MMVU: Measuring Expert-Level Multi-Discipline Video Understanding", CVPR 2025;
  https://github.com/yale-nlp/MMVU. File `validation.json`, a list; the test answers are not public.
- Split: validation only, 625 multiple-choice questions; the other 375 of its 1 000 are open-ended, need a judge and
  are left out, which is said.
- Task: multiple choice of 5, the answer's letter.
- Metric: accuracy, by subject.
- Videos: `{subject}/{number}.mp4`, the end of the published address; without a folder of videos, the address itself.
"""

from pathlib import Path

from transformers.utils import logging

from .official_files import VideoFolder, annotation_file, choice_row, letter_index, one_of_splits, read_rows


logger = logging.get_logger(__name__)


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("mmvu", split, "validation")
    path, folder = annotation_file(annotations, "validation.json"), VideoFolder(videos)
    official, rows = read_rows(path, "id", "video", "question_type", "question", "choices", "answer", "metadata"), []
    for number, row in enumerate(official, start=1):
        if row["question_type"] != "multiple-choice":
            continue
        name = "/".join(row["video"].rsplit("/", 2)[-2:])
        where = f"{path}, row {number}"
        answer = letter_index(row["answer"], where)
        rows.append(
            {
                "video": row["video"] if videos is None else folder.find([name.rsplit(".", 1)[0]], name),
                "question_id": row["id"],
                "question_type": row["metadata"]["subject"],
                **choice_row(row["question"], list(row["choices"].values()), answer, where),
            }
        )
    logger.warning(f"MMVU: {len(official) - len(rows)} open-ended questions of {len(official)} are left out.")
    return rows
