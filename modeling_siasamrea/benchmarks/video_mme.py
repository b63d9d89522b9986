"""
Video-MME: questions about short, medium and long web videos.

- Source: C. Fu et al., "Video-MME: The First-Ever Comprehensive Evaluation Benchmark of Multi-modal LLMs in Video
  Analysis", CVPR 2025; https://huggingface.co/datasets/lmms-lab/Video-MME. File
  `videomme/test-00000-of-00001.parquet`.
- Split: test only, 2 700 questions about 900 videos.
- Task: multiple choice of 4, the answer's letter. Options are published with their letter, which is left out here.
- Metric: accuracy, by duration (short, medium, long). Compare with scores without subtitles.
- Videos: `{videoID}.mp4`.
"""

from pathlib import Path

from ..data.tables import read_table
from .official_files import VideoFolder, annotation_file, check_columns, choice_row, letter_index, one_of_splits


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("video_mme", split, "test")
    inner = annotations / "videomme"
    path = annotation_file(inner if inner.is_dir() else annotations, "test-00000-of-00001.parquet")
    folder, official = VideoFolder(videos), list(read_table(path, split))
    check_columns(path, official, "videoID", "question_id", "duration", "question", "options", "answer")
    return [
        {
            "video": folder.find([row["videoID"]], f"{row['videoID']}.mp4"),
            "question_id": row["question_id"],
            "question_type": row["duration"],
            **choice_row(row["question"], row["options"], letter_index(row["answer"], where), where),
        }
        for number, row in enumerate(official, start=1)
        for where in [f"{path}, row {number}"]
    ]
