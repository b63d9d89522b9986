"""
MSVD-QA: open-ended questions about 1 970 short YouTube clips.

- Source: D. Xu et al., "Video Question Answering via Gradually Refined Attention over Appearance and Motion", ACM MM
  2017; https://github.com/xudejing/video-question-answering. Files `{train,val,test}_qa.json`; questions made by a
  program from captions.
- Splits: 30 933 training, 6 415 validation and 13 157 test questions about 1 200, 250 and 520 videos.
- Task: open-ended; vocabulary of the 1 000 most frequent training answers (decision; paper: the most frequent).
- Metric: accuracy, an answer outside the vocabulary is wrong; by the question's first word (what, who, how, when,
  where).
- Videos: `vid{n}.avi`, or by their YouTube names, which `youtube_mapping.txt` beside the annotations lists.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_text
from .official_files import annotation_file, open_ended_rows


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, f"{split}_qa.json")
    mapping = path.parent / "youtube_mapping.txt"
    pairs = [line.split() for line in read_text(mapping).split("\n")] if mapping.is_file() else []
    youtube = {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
    return open_ended_rows(path, lambda n: folder.find(f"vid{n}.avi", youtube.get(f"vid{n}", f"vid{n}")))
