"""
NExT-GQA: NExT-QA's causal and temporal questions with the spans of the video that show the answer.

- Source: J. Xiao et al., "Can I Trust Your Answer? Visually Grounded Video Question Answering", CVPR 2024;
  https://github.com/doc-doc/NExT-GQA. Files `{val,test}.csv` and their spans `gsub_{val,test}.json`.
- Splits: 3 358 validation and 5 553 test questions about 567 and 990 videos; results are on test. Training has no
  spans: train on NExT-QA (`nextqa_mc`).
- Task: multiple choice of 5; the answer is one of their texts. The spans are `evidence` and do not cut the video.
- Metric: accuracy (Acc@QA), by type: causal why and how (CW, CH), temporal next, current and previous (TN, TC, TP).
  The scores of grounding (Acc@GQA, IoP, IoU) are left out: no span is predicted.
- Videos: those of NExT-QA, `{video_id}.mp4`, in one folder or under VidOR's folders.
"""

from pathlib import Path

from transformers.utils import logging

from ..data.tables import read_csv
from .official_files import (
    VideoFolder,
    annotation_file,
    check_columns,
    choice_row,
    one_of_splits,
    read_object,
    short_name,
)


logger = logging.get_logger(__name__)


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    short = short_name(one_of_splits("nextgqa", split, "validation", "test"))
    path, folder = annotation_file(annotations, f"{short}.csv"), VideoFolder(videos)
    span_path = annotation_file(path.parent, f"gsub_{short}.json")
    spans, without = read_object(span_path), 0
    official = list(read_csv(path))
    check_columns(path, official, "video_id", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
    rows = []
    for number, row in enumerate(official, start=1):
        video, where = row["video_id"], f"{path}, row {number}"
        evidence = spans.get(video, {}).get("location", {}).get(row["qid"], [])
        without += not evidence
        rows.append(
            {
                "video": folder.find([video], f"{video}.mp4"),
                "question_id": f"{video}_{row['qid']}",
                "question_type": row["type"],
                "evidence": evidence,
                **choice_row(row["question"], [row[f"a{place}"] for place in range(5)], row["answer"], where),
            }
        )
    if without:
        logger.warning(f"NExT-GQA: {without} of {len(rows)} questions have no span in {span_path}.")
    return rows
