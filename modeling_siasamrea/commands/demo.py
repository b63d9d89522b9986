"""A page in the browser: ask a checkpoint about a video, and see what the model sees."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .checkpoint import CHECKPOINT, add_model_options
from .parser import parser_for


def main(argv: Sequence[str] | None = None) -> None:
    """
    Serves the page until it is stopped; what users uploaded goes with it.

    Args:
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.

    Raises:
        `ValueError`: If Gradio is not installed, the checkpoint cannot be loaded, or there are no such examples.
    """
    arguments = demo_arguments(argv)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError('The page needs Gradio: pip install "siasamrea[demo]".')
    from modeling_siasamrea.commands.checkpoint import load_answerer
    from modeling_siasamrea.demo.page import Demo, Page, launch_page, load_examples

    examples = load_examples(arguments.examples)
    answerer = load_answerer(arguments.checkpoint, None, arguments.base_model, arguments.settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service cleans up like Ctrl+C
    with tempfile.TemporaryDirectory(prefix="siasamrea_demo_") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = Page(Demo(answerer, examples), Path(arguments.checkpoint).name)
        auth = arguments.auth and tuple(arguments.auth.split(":", 1))
        where = {"server_name": arguments.host, "server_port": arguments.port}
        launch_page(page, share=arguments.share, auth=auth, **where)


if __name__ == "__main__":
    main()


def demo_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Opens a page in the browser: ask a checkpoint about a video, and see what the model sees."""
    sample_questions = Path("outputs/sample_data/test.jsonl")
    parser = parser_for(demo_arguments)
    parser.add_argument(
        "checkpoint",
        nargs="?",
        default=os.environ.get("SIASAMREA_CHECKPOINT", CHECKPOINT),
        help="a SiaSamRea checkpoint or LoRA adapter: hub name or folder; default: the environment's "
        "SIASAMREA_CHECKPOINT, or the quickstart's",
    )
    add_model_options(parser)
    parser.add_argument(
        "--examples",
        default=sample_questions if sample_questions.is_file() else None,
        help="what can be picked: a folder of videos, or a JSONL or CSV file of questions about videos beside it; "
        "default: the quickstart's test questions, where they are",
    )
    parser.add_argument("--host", help="address to serve on; 0.0.0.0 for other machines too; default: 127.0.0.1")
    parser.add_argument("--port", type=int, help="port to serve on; default: the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="also serve at a public address of Gradio's, for a week")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="ask visitors for this name and password")
    arguments = parser.parse_args(argv)
    if arguments.auth is not None and not all(arguments.auth.partition(":")):
        parser.error("--auth must have the form USER:PASSWORD.")
    return arguments
