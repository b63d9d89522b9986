"""
NExT-GQA: NExT-QA's causal and temporal questions with the spans of the video that show the answer.

- Source: J. Xiao et al., "Can I Trust Your Answer? Visually Grounded Video Question Answering", CVPR 2024;
  https://github.com/doc-doc/NExT-GQA. Files `{val,test}.csv` and their spans `gsub_{val,test}.json`; in the repository
  below `datasets/nextgqa`.
- Splits: 3 358 validation and 5 553 test questions about 567 and 990 videos; results are on test. Training has no
  spans: train on NExT-QA (`nextqa_mc`).
- Seen: the published validation files, all of whose 3 358 rows are read and have a span.
- Task: multiple choice of 5; the answer is one of their texts. The spans are `evidence` and do not cut the video.
- Metric: accuracy (Acc@QA), by type: causal why and how (CW, CH), temporal next, current and previous (TN, TC, TP).
  The scores of grounding (Acc@GQA, IoP, IoU) are left out: no span is predicted.
- Videos: those of NExT-QA, `{video_id}.mp4`, in one folder or under VidOR's folders.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_json
from .nextqa_mc import read_choices
from .official_files import annotation_file, logger


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, f"{split}.csv")
    span_path = annotation_file(path.parent, f"gsub_{split}.json")
    spans, without = read_json(span_path, dict), 0
    for row in read_choices(path, folder, "video_id", by_index=False):
        video, _, question = row["question_id"].partition("_")
        evidence = spans.get(video, {}).get("location", {}).get(question, [])
        without += not evidence
        yield row | {"evidence": evidence}
    if without:
        logger.warning(f"NExT-GQA: questions without a span in {span_path}: {without}.")
