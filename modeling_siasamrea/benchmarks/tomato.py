"""
TOMATO: questions that need several frames in their order, about people, objects and simulated scenes.

- Source: Z. Shangguan et al., "TOMATO: Assessing Visual Temporal Reasoning Capabilities in Multimodal Foundation
  Models", ICLR 2025; https://github.com/yale-nlp/TOMATO. Files `data/{count,direction,rotation,shape&trend,
  velocity&frequency,visual_cues}.json`, each an object of rows; those that are not there are named in a warning.
- Split: test only, 1 484 questions about 1 417 videos: 292, 403, 286, 223, 210 and 70 in the files' order.
- Seen: all six files; the rows of the first two are counted. The keys of rows are not consecutive.
- Task: multiple choice of 3 to 7, the answer's index. "count" is multiple choice as well.
- Metric: accuracy, by file.
- Videos: `{demonstration_type}/{key}.mp4`, where the type is human, object or simulated.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_json
from .official_files import annotation_files, choice_row


FILES = ("count", "direction", "rotation", "shape&trend", "velocity&frequency", "visual_cues")


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    for path in annotation_files(annotations, "data", FILES):
        for number, row in read_json(path, dict).items():
            yield {
                "video": folder.find(f"{row['demonstration_type']}/{row['key']}.mp4"),
                "question_id": f"{path.stem}_{number}",
                "question_type": path.stem,
                **choice_row(row["question"], row["options"], row["answer"], f"{path}, row {number}"),
            }
