"""
MLVU, multiple choice: seven tasks about videos of three minutes to two hours.

- Source: J. Zhou et al., "MLVU: Benchmarking Multi-task Long Video Understanding", CVPR 2025;
  https://github.com/JUNJIE99/MLVU. Files `json/{1_plotQA,...,7_topic_reasoning}.json`, lists of `video`, `question`,
  `candidates`, `answer` (a text) and `question_type`. The generation tasks, `8_sub_scene` and `9_summary`, need a
  judge and are left out.
- Split: validation only, the 2 174 multiple-choice questions of the development set; files that are not there are
  named in a warning.
- Task: multiple choice of 4.
- Metric: accuracy, by task; the published M-Avg is the mean over tasks.
- Videos: `video/{file}/{video}`; the same names are in several folders.
"""

from pathlib import Path

from transformers.utils import logging

from .official_files import VideoFolder, choice_row, one_of_splits, read_rows, without_suffix


logger = logging.get_logger(__name__)

FILES = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("mlvu", split, "validation")
    parent = annotations / "json" if (annotations / "json").is_dir() else annotations
    paths = [parent] if parent.is_file() else [parent / f"{name}.json" for name in FILES]
    missing = [path.name for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        raise ValueError(f"MLVU: {annotations} must have files such as {missing[0]}.")
    if missing:
        logger.warning(f"MLVU: {parent} has no {', '.join(missing)}.")
    folder, rows = VideoFolder(videos), []
    for path in (path for path in paths if path.is_file()):
        official = read_rows(path, "video", "question", "candidates", "answer", "question_type")
        for number, row in enumerate(official, start=1):
            name, stem = f"{path.stem}/{row['video']}", without_suffix(row["video"])
            names = [without_suffix(name), f"{path.stem.split('_', 1)[1]}/{stem}", stem]
            choice = choice_row(row["question"], row["candidates"], row["answer"], f"{path}, row {number}")
            rows.append({"video": folder.find(names, name), **choice})
            rows[-1] |= {"question_id": f"{path.stem}_{number - 1}", "question_type": row["question_type"]}
    return rows
