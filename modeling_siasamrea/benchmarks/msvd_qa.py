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

from ..data.tables import read_text
from .official_files import VideoFolder, annotation_file, open_ended_rows, short_name


def read_mapping(folder: Path) -> dict[str, str]:
    """Reads the YouTube name of each `vid{n}`; empty if the file is not there."""
    path = folder / "youtube_mapping.txt"
    if not path.is_file():
        return {}
    pairs = [line.split() for line in read_text(path).split("\n") if line.strip()]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"{path}: a line has a YouTube name and a name such as vid1; got {' '.join(pair)!r}.")
    return {name: youtube for youtube, name in pairs}


def load_rows(annotations: Path, folder: VideoFolder, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, f"{short_name(split)}_qa.json")
    mapping = read_mapping(path.parent)
    return open_ended_rows(
        path, lambda number: folder.find(f"vid{number}.avi", mapping.get(f"vid{number}", f"vid{number}"))
    )
