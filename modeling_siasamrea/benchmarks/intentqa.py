"""
IntentQA: multiple-choice questions about the intent of actions in everyday videos.

- Source: J. Li et al., "IntentQA: Context-aware Video Intent Reasoning", ICCV 2023;
  https://github.com/JoseponLee/IntentQA. Files `{train,val,test}.csv` in NExT-QA's columns, with `video_id`; in the
  repository below `datasets/IntentQA`.
- Splits: 12 119 training, 2 044 validation and 2 134 test questions about NExT-QA's videos; results are on test.
- Seen: the published `val.csv`, all of whose 2 044 rows are read, and parts of `test.csv`, whose length fits its
  number of rows. `train.csv` was not found, so 12 119 is not confirmed.
- Task: multiple choice of 5, the answer's index.
- Metric: accuracy, by type: causal why and how (CW, CH), temporal next and previous (TN, TP).
- Videos: those of NExT-QA, `{video_id}.mp4`, in one folder or under VidOR's folders.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .nextqa_mc import read_choices
from .official_files import annotation_file


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    return read_choices(annotation_file(annotations, f"{split}.csv"), folder, "video_id")
