"""
LongVideoBench: questions that refer to a moment of a long video.

- Source: H. Wu et al., "LongVideoBench: A Benchmark for Long-context Interleaved Video-Language Understanding",
  NeurIPS 2024; https://huggingface.co/datasets/longvideobench/LongVideoBench. Files `lvb_val.json` and
  `lvb_test_wo_gt.json`, lists. Its Parquet files, which have other columns, are not read.
- Splits: 1 337 validation questions, which results are on, and 5 341 test questions without answers.
- Seen: the first rows of `lvb_val.json`. `lvb_test_wo_gt.json` was not seen; the authors' loader reads both alike. The
  numbers add up to the 6 678 of the dataset card, and the hub's viewer of `LongVideoBench-Meta` rounds them (1.34k and
  5.34k).
- Task: multiple choice of up to 5, the answer's index `correct_choice`.
- Metric: accuracy, by the group of the video's duration (15, 60, 600, 3600 seconds). The subtitles, which the authors
  put between the frames, are not used: compare with scores without subtitles.
- Videos: `videos/{video_path}`.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_file, choice_row, read_rows


FILES = {"val": "lvb_val.json", "test": "lvb_test_wo_gt.json"}


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, FILES[split])
    for where, row in read_rows(path, "id", "video_path", "question", "candidates", "duration_group"):
        yield {
            "video": folder.find(row["video_path"]),
            "question_id": str(row["id"]),
            "question_type": str(row["duration_group"]),
            **choice_row(row["question"], row["candidates"], row.get("correct_choice"), where),
        }
