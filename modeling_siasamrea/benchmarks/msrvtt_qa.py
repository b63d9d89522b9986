"""
MSRVTT-QA: open-ended questions about 10 000 web videos.

- Source: D. Xu et al., ACM MM 2017, with MSVD-QA; https://github.com/xudejing/video-question-answering. Files
  `{train,val,test}_qa.json`, or ClipBERT's `{train,val,test}.jsonl`.
- Splits: 158 581 training, 12 278 validation and 72 821 test questions about 6 513, 497 and 2 990 videos.
- Task: open-ended; vocabulary of the 1 000 most frequent training answers (paper).
- Metric: accuracy, an answer outside the vocabulary is wrong; by the question's first word (what, who, how, when,
  where).
- Videos: `video{n}.mp4`, in one folder or in TrainValVideo and TestVideo.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_file, open_ended_rows


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, f"{split}_qa.json", f"{split}.jsonl")
    return open_ended_rows(path, lambda name: folder.find(f"video{str(name).removeprefix('video')}.mp4"))
