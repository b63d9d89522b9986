"""The argument parser of the commands."""

import argparse
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .printing import one_line


class ArgumentParser(argparse.ArgumentParser):
    """Refuses bad usage in one sentence, without the list of all arguments."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{one_line(message)}\n")


def parser_for(arguments_of: Callable) -> ArgumentParser:
    """Makes a parser whose help begins with the docstring of the function that reads the arguments."""
    description = inspect.getdoc(arguments_of)
    return ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_model(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds the argument `model`, which is given by position or as `--model`; read by `parse_intermixed_args`."""
    text = "a checkpoint, a video-language model, or a LoRA adapter: folder or hub name; also as --model"
    text += "" if default is None else f"; default: {default}"
    parser.add_argument("model", nargs="?", default=argparse.SUPPRESS, help=text)
    parser.add_argument("--model", default=default, help=argparse.SUPPRESS)


def add_work_arguments(parser: ArgumentParser, does: str, note: str) -> None:
    """Adds `--workers` and `--shard`, for a command that does something to each of many videos."""
    parser.add_argument("--workers", type=one_or_more, default=os.cpu_count(), help="processes; default: one per core")
    help_of_shard = f"{does} the i-th of n shares of the videos, on any machine; {note}"
    parser.add_argument("--shard", type=shard_of, default=(1, 1), metavar="i/n", help=help_of_shard)


def one_or_more(text: str) -> int:
    """Reads a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it must be 1 or more; got {text!r}.")
    return int(text)


def user_path(text: str) -> Path:
    """Reads a path, in which `~` is the home folder."""
    return Path(text).expanduser()


def shard_of(text: str) -> tuple[int, int]:
    """Reads `i/n`, the i-th of n shares of the work, counted from 1: the videos `i - 1`, `i - 1 + n` and so on."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"--shard must be i/n with i from 1 to n; got {text!r}.")
    return int(number), int(count)
