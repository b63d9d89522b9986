"""
Video-MME: questions about short, medium and long web videos.

- Source: C. Fu et al., "Video-MME: The First-Ever Comprehensive Evaluation Benchmark of Multi-modal LLMs in Video
  Analysis", CVPR 2025; https://huggingface.co/datasets/lmms-lab/Video-MME. File
  `videomme/test-00000-of-00001.parquet`.
- Split: test only, 2 700 questions about 900 videos.
- Seen: single rows of the file. The numbers are the authors'; the hub's viewer of the file rounds its rows (2.7k).
- Task: multiple choice of 4, the answer's letter. Options are published with their letter, which is left out here.
- Metric: accuracy, by duration (short, medium, long). Compare with scores without subtitles.
- Videos: `{videoID}.mp4`.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_file, choice_row, letter_index, read_rows


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, "videomme/test-00000-of-00001.parquet")
    for where, row in read_rows(path, "videoID", "question_id", "duration", "question", "options", "answer"):
        yield {
            "video": folder.find(f"{row['videoID']}.mp4"),
            "question_id": row["question_id"],
            "question_type": row["duration"],
            **choice_row(row["question"], row["options"], letter_index(row["answer"], where), where),
        }
