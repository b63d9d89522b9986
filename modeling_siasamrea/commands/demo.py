"""`siasamrea demo`: a page in the browser to ask a model about a video, and to see what the model sees."""

import argparse
import os
import signal
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from .checkpoint import CHECKPOINT, add_model_options, load_answerer
from .parser import add_model, parser_for


SAMPLE_QUESTIONS = Path("outputs/sample_data/test.jsonl")


def demo_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Opens a page in the browser: ask a model about a video, and see what the model sees.

        siasamrea demo Qwen/Qwen3-VL-2B-Instruct
        siasamrea demo my-model --examples videos
        siasamrea demo my-model --predictions evaluation/predictions.jsonl --videos videos
    """
    parser = parser_for(demo_arguments)
    add_model(parser, os.environ.get("SIASAMREA_CHECKPOINT", CHECKPOINT))
    add_model_options(parser)
    parser.add_argument(
        "--examples",
        default=SAMPLE_QUESTIONS if SAMPLE_QUESTIONS.is_file() else None,
        help="what can be picked: a folder of videos, or a JSONL or CSV file of questions about videos beside it; "
        "default: the quickstart's test questions, where they are",
    )
    parser.add_argument("--predictions", type=Path, help="predictions file of an evaluation to review in a tab")
    parser.add_argument(
        "--videos", type=Path, default=Path("."), help="folder of its videos, if they have moved since"
    )
    parser.add_argument("--host", help="address to serve on; 0.0.0.0 for other machines too; default: 127.0.0.1")
    parser.add_argument("--port", type=int, help="port to serve on; default: the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="also serve at a public address of Gradio's, for a week")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="ask visitors for this name and password")
    given = parser.parse_intermixed_args(argv)
    if given.auth is not None and not all(given.auth.partition(":")):
        parser.error("--auth must have the form USER:PASSWORD.")
    if given.predictions is not None and not given.predictions.is_file():
        parser.error(f"The predictions file {given.predictions} does not exist.")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    """
    Serves the page until it is stopped, and then deletes the uploads of its users.

    Raises:
        `ValueError`: If the model cannot be loaded, or there are no such examples.
    """
    given = demo_arguments(argv)
    from ..demo.page import Page, load_examples
    from ..demo.review import draw_review

    examples = load_examples(given.examples)
    answerer = load_answerer(given.model, given.base_model, given.settings)
    sampler = answerer.processor.video_processor
    review = given.predictions and cache(partial(draw_review, given.predictions, given.videos, sampler))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service cleans up like Ctrl+C
    with tempfile.TemporaryDirectory(prefix="siasamrea_demo_") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        auth = given.auth and tuple(given.auth.split(":", 1))
        page = Page(answerer, Path(given.model).name, examples, review)
        served = {"server_name": given.host, "server_port": given.port, "quiet": True, "prevent_thread_lock": True}
        _, local, public = page.launch(share=given.share, auth=auth, **served)
        print(f"The page is at {public or local}. Ctrl+C ends it.", flush=True)
        page.blocks.block_thread()
