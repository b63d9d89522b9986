"""A page in the browser: ask a checkpoint about a video, and see what the model sees."""

import importlib.util
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from modeling_siasamrea.commands.siasamrea import demo_arguments


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
    from modeling_siasamrea.answerer_loading import load_answerer
    from modeling_siasamrea.demo_siasamrea import Demo, Page, launch_page, load_examples

    examples = load_examples(arguments.examples)
    answerer = load_answerer(arguments.checkpoint)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service cleans up like Ctrl+C
    with tempfile.TemporaryDirectory(prefix="siasamrea_demo_") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = Page(Demo(answerer, examples), Path(arguments.checkpoint).name)
        launch_page(page, server_name=arguments.host, server_port=arguments.port)


if __name__ == "__main__":
    main()
