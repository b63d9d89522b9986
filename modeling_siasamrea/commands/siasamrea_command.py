"""
The command `siasamrea`: the names of its subcommands, each imported when it is called.

Installed as a module of its own: importing anything inside `modeling_siasamrea` imports torch and Transformers, which
the list of commands and a misspelt name do not need.
"""

import difflib
import gc
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence


# Each is `modeling_siasamrea.commands.<name>.main`, with _ for -, which takes the rest of the command line.
COMMANDS = {
    "train": "fine-tune and evaluate; `train quickstart` makes its own data",
    "train-vlm": "the same for a video-language model, such as Qwen3-VL",
    "evaluate": "answer and score the rows of a file or benchmark",
    "review": "write the answers of an evaluation as one HTML page, wrong ones first",
    "ask": "ask a model about a video, or about many",
    "check": "find the videos of a data set that cannot be used",
    "rows": "write annotation rows in this package's format or that of other trainers",
    "prepare": "make small copies of large videos, with the same frames and times",
    "demo": "open a page in the browser that shows what a model sees",
    "merge": "turn a LoRA adapter and its base model into one checkpoint",
    "export": "write a program that answers without this package",
    "convert": "turn ClipBERT's weights into a checkpoint",
}


HELP = """usage: siasamrea COMMAND ...

Video question answering with siamese sampling and reasoning.

{commands}

`siasamrea COMMAND --help` lists its arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit code."""
    word, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    name = word.replace("_", "-")
    if name in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:11s}{does}" for name, does in COMMANDS.items())))
        return 0
    if name == "--version":
        print(importlib.metadata.version("siasamrea"))
        return 0
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(COMMANDS)}."
        print(f"There is no command {word!r}; {advice}", file=sys.stderr)
        return 2
    sys.argv[0] = f"siasamrea {name}"  # named in the command's own help
    # Threads of OpenMP that wait for work sleep after a short while. Read when torch is imported, so set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    gc.disable()  # imports make much that stays, and that the garbage collector need not look at
    try:
        names = (name.replace("-", "_"), "process")
        command, process = (importlib.import_module(f"modeling_siasamrea.commands.{of}") for of in names)
    except KeyboardInterrupt:
        return 130
    gc.freeze()
    gc.enable()
    return process.run_command(command.main, rest)


if __name__ == "__main__":
    sys.exit(main())
