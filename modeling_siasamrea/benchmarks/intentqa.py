"""
IntentQA: multiple-choice questions about the intent of actions in everyday videos.

- Source: J. Li et al., "IntentQA: Context-aware Video Intent Reasoning", ICCV 2023;
  https://github.com/JoseponLee/IntentQA. Files `{train,val,test}.csv` in NExT-QA's columns, with `video_id`.
- Splits: 12 119 training, 2 044 validation and 2 134 test questions about NExT-QA's videos; results are on test.
- Task: multiple choice of 5, the answer's index.
- Metric: accuracy, by type: causal why and how (CW, CH), temporal next and previous (TN, TP).
- Videos: those of NExT-QA, `{video_id}.mp4`, in one folder or under VidOR's folders.
"""

from pathlib import Path

from ..data.tables import read_csv
from .official_files import VideoFolder, annotation_file, check_columns, choice_row, short_name, whole_number


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path, folder = annotation_file(annotations, f"{short_name(split)}.csv"), VideoFolder(videos)
    official = list(read_csv(path))
    check_columns(path, official, "video_id", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
    return [
        {
            "video": folder.find([row["video_id"]], f"{row['video_id']}.mp4"),
            "question_id": f"{row['video_id']}_{row['qid']}",
            "question_type": row["type"],
            **choice_row(row["question"], [row[f"a{place}"] for place in range(5)], answer, f"{path}, row {number}"),
        }
        for number, row in enumerate(official, start=1)
        for answer in [whole_number(row["answer"], 4, "answer", f"{path}, row {number}")]
    ]
