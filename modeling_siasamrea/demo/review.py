"""Draws the answers of a predictions file as one HTML page: wrong answers first, with the frames that were seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.tables import read_jsonl
from ..evaluation.confusion import OTHER, answer_texts, confusion_table
from ..processors.video_decoding import VideoDecodingError
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from .drawing import TEMPLATES, Cell, draw
from .inspection import anchor_clip, frames_at


Line = dict[str, Any]


def read_predictions(path: Path) -> list[Line]:
    """
    Reads the lines of a predictions file that an evaluation wrote, see [`prediction_row`].

    Raises:
        `ValueError`: If a line is no prediction.
    """
    lines = list(read_jsonl(path))
    for number, line in enumerate(lines, start=1):
        missing = [name for name in ("video", "question", "task", "prediction") if name not in line]
        if missing:
            raise ValueError(f"{path} is no predictions file: line {number} has no {missing[0]!r}.")
    return lines


def by_error(lines: Sequence[Line]) -> list[Line]:
    """Sorts wrong answers to the top, the surest first; then come rows without a right answer, then right ones."""
    order = {False: 0, None: 1, True: 2}
    return sorted(lines, key=lambda line: (order[line.get("correct")], -line.get("score", 0.0)))


def draw_review(
    predictions: Path, videos: Path, video_processor: SiaSamReaVideoProcessor | None = None, most: int = 200
) -> str:
    r"""
    Draws a predictions file as one HTML page that needs no other file.

    Args:
        predictions (`Path`): The file, see [`read_predictions`].
        videos (`Path`): A folder of the videos, where they do not lie at the paths of the lines.
        video_processor ([`SiaSamReaVideoProcessor`], *optional*):
            Samples the anchor clip of lines that do not say which frames were seen (`frame_times`).
        most (`int`, *optional*, defaults to 200): Number of lines that are drawn, wrong ones first; the counts are of
            all lines.

    Returns:
        `str`: HTML.

    Raises:
        `ValueError`: If a line is no prediction.
    """
    lines = read_predictions(predictions)
    known = [line["correct"] for line in lines if "correct" in line]
    names, counts = confusion_table(lines)
    return TEMPLATES.get_template("review.html").render(
        title=f"Answers of {predictions}",
        number=len(lines),
        number_known=len(known),
        number_right=sum(known),
        names=names,
        cells=confusion_cells(names, counts),
        cards=[_card(line, videos, video_processor) for line in by_error(lines)[:most]],
    )


def confusion_cells(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[list[Cell]]:
    """Colors the counts of right answers (rows) against given ones by their share of the row."""
    return [
        [
            (str(count or ""), "strong" if right == given != OTHER else "other", 80 * count / max(sum(of_row), 1))
            for given, count in zip(names, of_row)
        ]
        for right, of_row in zip(names, counts)
    ]


def _card(line: Line, videos: Path, video_processor: SiaSamReaVideoProcessor | None) -> Line:
    """Adds to a line its kind, the texts of its answers, and the frames that the model saw or why there are none."""
    rights, given = answer_texts(line)
    card = line | {"kind": str(line.get("question_type") or line["task"]), "rights": rights, "given": given}
    try:
        if "frame_times" in line:
            frames, times = frames_at(_video(line, videos), line["frame_times"])
        elif video_processor is not None:
            frames, times = anchor_clip(video_processor, _video(line, videos), line.get("start"), line.get("end"))
        else:
            return card | {"problem": "The frames that were seen are not known: name the model by --model."}
    except VideoDecodingError as error:
        return card | {"problem": str(error)}
    return card | {"frames": draw.pictures(frames, [f"{seconds:.2f} s" for seconds in times])}


def _video(line: Line, videos: Path) -> str | Path:
    """Returns a line's video: its path in the evaluation, the end of that path in the folder, or its address."""
    parts = Path(line["video"]).parts
    places = [Path(line["video"]), *(videos.joinpath(*parts[first:]) for first in range(len(parts)))]
    return next((place for place in places if place.is_file()), line["video"])
