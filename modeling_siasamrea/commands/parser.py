"""The argument parser of the commands."""

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from transformers.hf_argparser import string_to_bool

from ..configuration_siasamrea import did_you_mean
from .printing import one_line


RULES = {int: "a whole number", float: "a number", string_to_bool: "true or false"}


class ArgumentParser(argparse.ArgumentParser):
    """Refuses bad usage in one sentence, without the list of all arguments; names the option that was meant."""

    def __init__(self, **kwargs: Any):
        self.options: list[str] = []
        self.file: str | None = None  # where the arguments stand that are read, if not on the command line
        super().__init__(allow_abbrev=False, **kwargs)

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        """Adds an argument."""
        if kwargs.get("type") in RULES:
            kwargs["type"] = reader(kwargs["type"], RULES[kwargs["type"]])
        action = super().add_argument(*names, **kwargs)
        self.options += action.option_strings
        return action

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses words after looking for options that do not exist."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            did_you_mean(self.prog, (word.split("=")[0] for word in words if word.startswith("--")), self.options)
        except ValueError as error:
            self.error(str(error))
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        message = re.sub("^argument ([^/:]+)[^:]*: it ", r"\1 ", message)
        where = "" if self.file is None else f"{self.file}: "
        self.exit(2, f"{where}{one_line(message)}\n")


def reader(read: Callable[[str], Any], rule: str) -> Callable[[str], Any]:
    """Makes a type of arguments that `read` reads; the error of a wrong value states the rule."""

    def read_value(text: str) -> Any:
        try:
            return read(text)
        except (ValueError, argparse.ArgumentTypeError):
            raise argparse.ArgumentTypeError(f"it must be {rule}; got {text!r:.100}.") from None

    return read_value


def parser_for(arguments_of: Callable) -> ArgumentParser:
    """Makes a parser whose help begins with the docstring of the function that reads the arguments."""
    description = inspect.getdoc(arguments_of)
    return ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_model(parser: ArgumentParser, default: str | None = None) -> None:
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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    number, count = map(_count, text.split("/"))
    if number > count:
        raise ValueError
    return number, count


def user_path(text: str) -> Path:
    """Reads a path, in which `~` is the home folder."""
    return Path(text).expanduser()


one_or_more = reader(_count, "1 or more")
# The i-th of n shares of the work, counted from 1: the videos `i - 1`, `i - 1 + n` and so on.
shard_of = reader(_shard, "i/n with i from 1 to n")
