"""
NExT-QA, multiple choice: causal and temporal questions about everyday videos.

- Source: J. Xiao et al., "NExT-QA: Next Phase of Question-Answering to Explaining Temporal Actions", CVPR 2021;
  https://github.com/doc-doc/NExT-QA. Files `{train,val,test}.csv`, here also accepted as `mc_{train,val,test}.csv`.
- Splits: 34 132 training, 4 996 validation and 8 564 test questions about 3 870, 570 and 1 000 videos.
- Task: multiple choice of 5.
- Metric: accuracy, by type: causal why and how (CW, CH), temporal next, current and previous (TN, TC, TP), descriptive
  counting, location and other (DC, DL, DO).
- Videos: `{video}.mp4`, in one folder or under VidOR's folders (`map_vid_vidorID.json` names them).
"""

from pathlib import Path

from ..data.tables import read_csv
from .official_files import VideoFolder, annotation_file, check_columns, short_name, whole_number


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    short = short_name(split)
    path, folder = annotation_file(annotations, f"{short}.csv", f"mc_{short}.csv"), VideoFolder(videos)
    official = list(read_csv(path))
    check_columns(path, official, "video", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
    return [
        {
            "video": folder.find([row["video"]], f"{row['video']}.mp4"),
            "question": row["question"],
            "answer": whole_number(row["answer"], 4, "answer", f"{path}, row {number}"),
            "candidates": [row[f"a{place}"] for place in range(5)],
            "as_published": True,
            "task": "multiple_choice",
            "question_id": f"{row['video']}_{row['qid']}",
            "question_type": row["type"],
        }
        for number, row in enumerate(official, start=1)
    ]
