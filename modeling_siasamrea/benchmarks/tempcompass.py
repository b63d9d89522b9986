"""
TempCompass, multiple choice: questions whose answer needs the order, speed or direction of what happens.

- Source: Y. Liu et al., "TempCompass: Do Video LLMs Really Understand Videos?", ACL Findings 2024;
  https://github.com/llyx97/TempCompass. File `questions/multi-choice.json`, by video and aspect; the options stand in
  the question. The other three tasks are left out: captions need a judge, yes/no and caption matching have files of
  their own.
- Split: test only, 1 580 questions about 410 videos.
- Seen: the published file, whose 1 580 rows are counted.
- Task: multiple choice of 2 to 4.
- Metric: accuracy, by aspect: action, speed, direction, order, attribute_change.
- Videos: `{video}.mp4`; conflicting pairs are named `{video}_reverse.mp4`, `_concat_` and so on.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.conversations import option_index, options_of
from ..data.folder_files import FolderFiles
from ..data.tables import read_json
from .official_files import annotation_file, choice_row


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    path = annotation_file(annotations, "questions/multi-choice.json")
    for video, aspects in read_json(path, dict).items():
        for aspect, questions in aspects.items():
            for place, official in enumerate(questions):
                where = f"{path}, {video}, {aspect}, question {place + 1}"
                question, options = options_of(official["question"])
                yield {
                    "video": folder.find(f"{video}.mp4"),
                    "question_id": f"{video}_{aspect}_{place}",
                    "question_type": aspect,
                    **choice_row(question, options, option_index(official["answer"], options, where), where),
                }
