"""
LongVideoBench: questions that refer to a moment of a long video.

- Source: H. Wu et al., "LongVideoBench: A Benchmark for Long-context Interleaved Video-Language Understanding",
  NeurIPS 2024; https://huggingface.co/datasets/longvideobench/LongVideoBench. Files `lvb_val.json` and
  `lvb_test_wo_gt.json`, lists.
- Splits: 1 337 validation questions, which results are on, and 5 341 test questions without answers.
- Task: multiple choice of 3 to 5, the answer's index `correct_choice`.
- Metric: accuracy, by the group of the video's duration (15, 60, 600, 3600 seconds). The subtitles, which the authors
  put between the frames, are not used: compare with scores without subtitles.
- Videos: `{video_path}`.
"""

from pathlib import Path

from .official_files import VideoFolder, annotation_file, choice_row, one_of_splits, read_rows, without_suffix


FILES = {"validation": "lvb_val.json", "test": "lvb_test_wo_gt.json"}


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("longvideobench", split, *FILES)
    path, folder = annotation_file(annotations, FILES[split]), VideoFolder(videos)
    official = read_rows(path, "id", "video_path", "question", "candidates", "duration_group")
    return [
        {
            "video": folder.find([without_suffix(row["video_path"])], row["video_path"]),
            "question_id": str(row["id"]),
            "question_type": str(row["duration_group"]),
            **choice_row(row["question"], row["candidates"], row.get("correct_choice"), f"{path}, row {number}"),
        }
        for number, row in enumerate(official, start=1)
    ]
