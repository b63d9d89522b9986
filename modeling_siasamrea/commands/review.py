"""`siasamrea review`: the answers of an evaluation as one HTML file, wrong ones first."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..demo.review import draw_review
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from ..video_language.settings import SETTINGS_NAME, VideoLanguageSettings
from .parser import one_or_more, parser_for


def review_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Draws the answers of an evaluation: one HTML file with the wrong answers first, a filter by kind and score, the
    frames that the model saw with their times, and a table of confusions.

        siasamrea review outputs/quickstart/predictions.jsonl --videos outputs/sample_data/videos
    """
    parser = parser_for(review_arguments)
    parser.add_argument("predictions", type=Path, help="the predictions file of an evaluation")
    parser.add_argument(
        "--videos", type=Path, default=Path("."), help="folder of the videos, if they have moved since"
    )
    parser.add_argument("--model", type=Path, help="the model's folder; default: the folder of the predictions")
    parser.add_argument("--output", type=Path, help="the HTML file; default: review.html beside the predictions")
    parser.add_argument("--most", type=one_or_more, default=200, help="answers that are drawn; default: %(default)s")
    given = parser.parse_args(argv)
    if not given.videos.is_dir():
        parser.error(f"The video folder {given.videos} does not exist.")
    given.model = given.model or given.predictions.parent
    given.output = given.output or given.predictions.with_name("review.html")
    return given


def main(argv: Sequence[str] | None = None) -> Path:
    """
    Writes the HTML file and returns its path.

    Raises:
        `ValueError`: If a line is no prediction.
    """
    given = review_arguments(argv)
    files = {path.name for path in given.model.glob("*.json")}
    processor = None
    if SETTINGS_NAME in files:
        processor = VideoLanguageSettings.from_pretrained(given.model).video_sampler()
    elif files & {"processor_config.json", "video_preprocessor_config.json"}:
        processor = SiaSamReaVideoProcessor.from_pretrained(given.model)
    given.output.write_text(draw_review(given.predictions, given.videos, processor, given.most), encoding="utf-8")
    print(f"{given.output}: open it in a browser.")
    return given.output
