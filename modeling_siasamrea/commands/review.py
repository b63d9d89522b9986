"""`siasamrea review`: the answers of an evaluation as one HTML file, wrong ones first."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..demo.inspection import anchor_clip, frames_at
from ..demo.review import Line, SeenFrames, draw_review, read_predictions
from ..processors.video_decoding import VideoDecodingError
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from ..video_language.settings import SETTINGS_NAME
from .parser import parser_for


def review_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Draws the answers of an evaluation: one HTML file with the wrong answers first, a filter by kind and score, the
    frames that the model saw with their times, and a table of confusions.

        siasamrea review outputs/quickstart/predictions.jsonl --videos outputs/sample_data/videos
    """
    parser = parser_for(review_arguments)
    parser.add_argument("predictions", type=Path, help="the predictions file of an evaluation")
    parser.add_argument("--videos", type=Path, default=Path("."), help="folder of the videos; default: this folder")
    parser.add_argument("--model", type=Path, help="the model's folder; default: the folder of the predictions")
    parser.add_argument("--output", type=Path, help="the HTML file; default: review.html beside the predictions")
    parser.add_argument("--most", type=int, default=200, help="answers that are drawn; default: %(default)s")
    given = parser.parse_args(argv)
    if not given.predictions.is_file():
        parser.error(f"The predictions file {given.predictions} does not exist.")
    if given.most < 1:
        parser.error(f"--most, the number of answers, must be 1 or more; got {given.most}.")
    given.model = given.model or given.predictions.parent
    given.output = given.output or given.predictions.with_name("review.html")
    return given


def main(argv: Sequence[str] | None = None) -> Path:
    """
    Writes the HTML file and returns its path.

    Raises:
        `ValueError`: If a line is no prediction.
    """
    arguments = review_arguments(argv)
    lines = read_predictions(arguments.predictions)
    files = {path.name for path in arguments.model.glob("*.json")}
    sampled = SETTINGS_NAME not in files and files & {
        "processor_config.json",
        "video_preprocessor_config.json",
    }
    processor = SiaSamReaVideoProcessor.from_pretrained(arguments.model) if sampled else None

    def seen(line: Line) -> SeenFrames | str:
        video = arguments.videos / line["video"]
        try:
            if "frame_times" in line:
                return frames_at(video, line["frame_times"])
            if processor is not None:
                return anchor_clip(processor, video, line.get("start"), line.get("end"))
        except VideoDecodingError as error:
            return str(error)
        return "The frames that were seen are not known: evaluate with --save_frames, or name the model by --model."

    page = draw_review(lines, seen, f"Answers of {arguments.predictions}", arguments.most)
    arguments.output.write_text(page, encoding="utf-8")
    print(f"{arguments.output}: open it in a browser.")
    return arguments.output


__all__ = ["main"]
