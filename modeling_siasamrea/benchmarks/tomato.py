"""
TOMATO: questions that need several frames in their order, about people, objects and simulated scenes.

- Source: Z. Shangguan et al., "TOMATO: Assessing Visual Temporal Reasoning Capabilities in Multimodal Foundation
  Models", ICLR 2025; https://github.com/yale-nlp/TOMATO. Files `data/{count,direction,rotation,shape&trend,
  velocity&frequency,visual_cues}.json`, each an object of rows; those that are not there are named in a warning.
- Split: test only, 1 484 questions about 1 417 videos.
- Task: multiple choice of 3 to 7, the answer's index. "count" is multiple choice as well.
- Metric: accuracy, by file.
- Videos: `{demonstration_type}/{key}.mp4`, where the type is human, object or simulated.
"""

from pathlib import Path

from transformers.utils import logging

from .official_files import VideoFolder, choice_row, one_of_splits, read_object


logger = logging.get_logger(__name__)

FILES = ("count", "direction", "rotation", "shape&trend", "velocity&frequency", "visual_cues")


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("tomato", split, "test")
    paths = [annotations] if annotations.is_file() else [annotations / f"{name}.json" for name in FILES]
    missing = [path.name for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        raise ValueError(f"The folder {annotations} has no {' and no '.join(missing)}.")
    if missing:
        logger.warning(f"TOMATO: the folder {annotations} has no {' and no '.join(missing)}.")
    folder, rows = VideoFolder(videos), []
    for path in (path for path in paths if path.is_file()):
        for number, row in read_object(path).items():
            name = f"{row['demonstration_type']}/{row['key']}"
            rows.append(
                {
                    "video": folder.find([name], f"{name}.mp4"),
                    "question_id": f"{path.stem}_{number}",
                    "question_type": path.stem,
                    **choice_row(row["question"], row["options"], row["answer"], f"{path}, row {number}"),
                }
            )
    return rows
