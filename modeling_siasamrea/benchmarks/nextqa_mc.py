"""
NExT-QA, multiple choice: causal and temporal questions about everyday videos.

- Source: J. Xiao et al., "NExT-QA: Next Phase of Question-Answering to Explaining Temporal Actions", CVPR 2021;
  https://github.com/doc-doc/NExT-QA. Files `{train,val,test}.csv`, or `mc_{train,val,test}.csv`.
- Splits: 34 132 training, 4 996 validation and 8 564 test questions about 3 870, 570 and 1 000 videos.
- Task: multiple choice of 5.
- Metric: accuracy, by type: causal why and how (CW, CH), temporal next, current and previous (TN, TC, TP), descriptive
  counting, location and other (DC, DL, DO).
- Videos: `{video}.mp4`, in one folder or under VidOR's folders (`map_vid_vidorID.json` names them).
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_file, choice_row, read_rows, whole_number


CHOICES = ("a0", "a1", "a2", "a3", "a4")


def read_choices(path: Path, folder: FolderFiles, video: str, by_index: bool = True) -> Iterator[dict]:
    r"""
    Reads the files of NExT-QA and of NExT-GQA and IntentQA, which are made from it.

    Args:
        path (`Path`): The file.
        folder ([`FolderFiles`]): Its videos.
        video (`str`): The column of the video's number.
        by_index (`bool`, *optional*, defaults to `True`): Whether an answer is an index, or else a text.
    """
    for where, row in read_rows(path, video, "question", "answer", "qid", "type", *CHOICES):
        answer = whole_number(row["answer"], 4, "answer", where) if by_index else row["answer"]
        yield {
            "video": folder.find(f"{row[video]}.mp4"),
            "question_id": f"{row[video]}_{row['qid']}",
            "question_type": row["type"],
            **choice_row(row["question"], [row[choice] for choice in CHOICES], answer, where),
        }


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    return read_choices(annotation_file(annotations, f"{split}.csv", f"mc_{split}.csv"), folder, "video")
