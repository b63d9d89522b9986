"""
A page in the browser that shows what a checkpoint answers about a video, and why: `siasamrea demo` as a script.

    python examples/demo.py outputs/quickstart
    python examples/demo.py my-model --examples videos        # a folder of videos, or a JSONL file of questions

As a Hugging Face Space: a Space of the Gradio SDK with this file, a `requirements.txt` of one line, `siasamrea[demo]`,
the variable `SIASAMREA_CHECKPOINT` set to the hub name of a checkpoint, and a `README.md` that begins

    ---
    title: SiaSamRea
    sdk: gradio
    app_file: demo.py
    ---
"""

import sys

from modeling_siasamrea.commands.demo import main
from modeling_siasamrea.commands.process import run_command


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
