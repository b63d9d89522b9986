"""
The command `siasamrea`: a line a subcommand, each imported when it is called.

It is installed as a module of its own, because anything inside `modeling_siasamrea` imports torch and Transformers
with it; so help and a wrong name take no time.
"""

import difflib
import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Sequence


# Subcommand: its module, whose `main` gets the rest of the command line, and what it does.
COMMANDS = {
    "train": ("modeling_siasamrea.commands.train", "fine-tune and evaluate; `train quickstart` makes its own data"),
    "train_vlm": ("modeling_siasamrea.commands.train_vlm", "the same for a video-language model, such as Qwen3-VL"),
    "evaluate": ("modeling_siasamrea.commands.evaluate", "answer and score the rows of a file or benchmark"),
    "ask": ("modeling_siasamrea.commands.ask", "ask a checkpoint about a video, or about many"),
    "check": ("modeling_siasamrea.commands.check", "find the videos of a data set that cannot be used"),
    "prepare": ("modeling_siasamrea.commands.prepare", "make small copies of large videos, same frames and times"),
    "demo": ("modeling_siasamrea.commands.demo", "open a page in the browser that shows what a checkpoint sees"),
    "export": ("modeling_siasamrea.commands.export", "write a programme that answers without this package"),
    "convert": ("modeling_siasamrea.convert_clipbert_checkpoint", "turn ClipBERT's weights into a checkpoint"),
}


def is_sentence(error: Exception, script: str) -> bool:
    """Whether this package or the script raised an error, which then is a sentence about the input, and no bug."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").startswith(("modeling_siasamrea", script))


def run_command(main: Callable[[Sequence[str] | None], object], argv: Sequence[str] | None = None) -> int:
    r"""
    Runs a command as a shell expects it.

    Args:
        main (`Callable`): The command; it gets the command line.
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.

    Returns:
        `int`: the exit code. 0; 1 if a video cannot be read; 2 if other input makes no sense. Both come with one
        sentence on standard error; any other error is a bug and keeps its traceback.
    """
    try:
        main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; nothing is left to flush
        return 0
    except ValueError as error:
        if not is_sentence(error, main.__module__):
            raise
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1 if type(error).__name__ in ("VideoDecodingError", "UnreadableVideoError") else 2
    return 0


def help_text() -> str:
    """The subcommands."""
    lines = [f"  {name:10s}{does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: siasamrea COMMAND ...",
            "",
            "Video question answering with siamese sampling and reasoning.",
            "",
            *lines,
            "",
            "`siasamrea COMMAND --help` tells its arguments.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv:
        print(f"There is no command; choose from {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    name, rest = argv[0], argv[1:]
    if name in ("-h", "--help"):
        return run_command(lambda _: print(help_text()))
    if name == "--version":
        print(importlib.metadata.version("siasamrea"))
        return 0
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(COMMANDS)}."
        print(f"There is no command {name!r}; {advice}", file=sys.stderr)
        return 2
    sys.argv[0] = f"siasamrea {name}"  # what the command's own help calls it
    return run_command(importlib.import_module(COMMANDS[name][0]).main, rest)


if __name__ == "__main__":
    sys.exit(main())
