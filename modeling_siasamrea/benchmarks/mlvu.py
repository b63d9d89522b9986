"""
MLVU, multiple choice: seven tasks about videos of three minutes to two hours.

- Source: J. Zhou et al., "MLVU: Benchmarking Multi-task Long Video Understanding", CVPR 2025;
  https://github.com/JUNJIE99/MLVU, https://huggingface.co/datasets/MLVU/MVLU. Files `json/{1_plotQA,...,
  7_topic_reasoning}.json`, lists of `video`, `question`, `candidates`, `answer` (a text) and `question_type`. The
  generation tasks, `8_sub_scene` and `9_summary`, need a judge and are left out.
- Split: validation only, the 2 174 multiple-choice questions of the development set; files that are not there are
  named in a warning. The test set's answers are not public.
- Seen: `5_order.json` and the last rows of the other six files. The number of questions is the authors' and not
  confirmed; the hub's `topyun/MLVU_dev_plotQA` has 539 of them for `1_plotQA`.
- Task: multiple choice of 4.
- Metric: accuracy, by task; the published M-Avg is the mean over the seven tasks.
- Videos: `video/{file}/{video}`; the same names are in several folders.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_files, choice_row, read_rows


FILES = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    for path in annotation_files(annotations, "json", FILES):
        task = path.stem.split("_", 1)[1]
        official = read_rows(path, "video", "question", "candidates", "answer", "question_type")
        for number, (where, row) in enumerate(official):
            yield {
                "video": folder.find(f"{path.stem}/{row['video']}", f"{task}/{row['video']}", row["video"]),
                "question_id": f"{path.stem}_{number}",
                "question_type": row["question_type"],
                **choice_row(row["question"], row["candidates"], row["answer"], where),
            }
