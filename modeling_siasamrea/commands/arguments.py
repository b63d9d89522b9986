"""Arguments of a run, of a JSON file and of the command line, read by one parser."""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from transformers import HfArgumentParser

from ..configuration_siasamrea import did_you_mean
from .packaged_files import CONFIGS
from .parser import ArgumentParser


class JsonObject(argparse.Action):
    """Reads an argument that is a JSON object. Given again, its keys go over those given before."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Merges the object into what the namespace has."""
        try:
            value = json.loads(values)
        except (ValueError, RecursionError) as error:
            raise argparse.ArgumentError(self, f"{values!r:.100} is not JSON: {error}.") from None
        if not isinstance(value, dict):
            raise argparse.ArgumentError(self, f"it must be a JSON object; got {value!r:.100}.")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **value})


@dataclass
class DataArguments:
    """
    The questions: JSONL or CSV files, a data set known to `datasets`, or benchmarks in their official files. Columns:
    video, question, answer, and optionally candidates, task, start, end, question_type and question_id. Training rows
    without an answer serve the siamese loss alone; those of video-language models need one. Test rows without an
    answer are answered only.

    Args:
        train_file (`str`, *optional*): Training rows.
        validation_file (`str`, *optional*): Rows to evaluate on.
        test_file (`str`, *optional*): Rows to answer; those with answers are scored.
        dataset_name (`str`, *optional*): A data set for datasets.load_dataset, with splits train, validation, test.
        benchmarks (`list[str]`, *optional*): Names that load_benchmark knows, such as msvd_qa; trained together.
        annotations (`str`, *optional*): Folder of the benchmarks' annotation files.
        video_folder (`str`, *optional*): Folder that relative video paths start from.
        task (`str`, *optional*): Task of rows that name none: open_ended, multiple_choice or count.
        options_in_question (`bool`, *optional*, defaults to `False`):
            Whether options in a question ("A. red B. blue") become its candidates.
        skip_list (`str`, *optional*): JSONL file whose column video names videos to leave out in training.
        sample_data (`dict`, *optional*):
            Arguments of make_sample_data as JSON; the data is made in train_file's folder if it is missing.
        show_examples (`bool`, *optional*, defaults to `False`):
            Whether to show questions with answers and pictures at the end.
    """

    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    dataset_name: str | None = None
    benchmarks: list[str] | None = None
    annotations: str | None = None
    video_folder: str | None = field(default=None, metadata={"aliases": ["--videos"]})
    task: Literal["open_ended", "multiple_choice", "count"] | None = None
    options_in_question: bool = False
    skip_list: str | None = None
    sample_data: dict | str | None = field(default=None, metadata={"action": JsonObject})
    show_examples: bool = field(default=False, metadata={"aliases": ["--show_example"]})

    def __post_init__(self):
        if self.benchmarks and not self.annotations:
            raise ValueError("--benchmarks needs --annotations, the folder of their annotation files.")
        if self.sample_data is not None and self.train_file is None:
            raise ValueError("--sample_data needs --train_file, in whose folder the data is made.")


def read_config(name: str) -> dict[str, Any]:
    r"""
    Reads the arguments in a JSON file.

    Args:
        name (`str`): The file, or the name of a recipe in `examples/configs`, such as `quickstart`.

    Raises:
        `ValueError`: If it cannot be read or is not a JSON object.
    """
    recipes = {path.stem: path for path in CONFIGS.glob("*.json")}
    path = Path(name)
    if not path.exists():
        did_you_mean("The list of recipes", [name], recipes, cutoff=0.6)
        path = recipes.get(name, path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"The configuration {name} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"The configuration {name} must be a JSON object of arguments; it is {content!r:.60}.")
    return content


def as_words(content: dict[str, Any]) -> Iterator[str]:
    """Writes a JSON object of arguments as the words of a command line; null leaves an argument at its default."""
    for name, value in content.items():
        if isinstance(value, list):
            yield from (f"--{name}", *map(str, value))
        elif value is not None:
            yield f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"


def names_in(words: Sequence[str]) -> set[str]:
    """Returns the names of the arguments on a command line."""
    return {word.split("=")[0].strip("-").replace("-", "_") for word in words if word.startswith("--")}


def help_of(of_class: type) -> dict[str, str]:
    """Reads the descriptions of arguments from the docstrings of a dataclass and its parents."""
    found = {}
    for parent in reversed(of_class.__mro__):
        described = re.findall(
            r"^ {4}(\w+) \(.*?\):\s(.*?)(?=^ {0,4}\S|\Z)", inspect.getdoc(parent) or "", re.M | re.S
        )
        found |= {name: re.sub(r"\[?`\]?", "", " ".join(text.split())) for name, text in described}
    return found


class RunArgumentParser(HfArgumentParser, ArgumentParser):
    """Transformers' parser for dataclasses, with the help of their docstrings; refuses bad usage in one sentence."""

    def __init__(self, classes: Sequence[type], **kwargs: Any):
        self.help = {name: text for of_class in classes for name, text in help_of(of_class).items()}
        super().__init__(classes, **kwargs)

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        """Adds an argument."""
        kwargs.setdefault("help", self.help.get(names[0].lstrip("-"), "").replace("%", "%%"))
        return super().add_argument(*names, **kwargs)


def short_help(classes: Sequence[type], help_texts: dict[str, str], description: str, common: Sequence[str]) -> str:
    """Writes the help of a command with its most used arguments only."""
    aliases = {item.name: item.metadata.get("aliases", []) for of_class in classes for item in fields(of_class)}
    lines = ["usage: " + Path(sys.argv[0]).name + " [--ARGUMENT VALUE ...]", "", description.strip(), ""]
    for name in common:
        title, *_ = *aliases[name], f"--{name}"
        lines.append(f"  {title:30s}{help_texts[name].split('. ')[0].rstrip('.')}")
    return "\n".join(
        [*lines, "", "A JSON file of arguments, or a packaged recipe, may come first. --help-all lists all arguments."]
    )


def read_arguments(
    argv: Sequence[str] | None,
    classes: tuple[type, ...],
    description: str,
    common: Sequence[str] = (),
    complete: Callable[[set[str]], Sequence[str]] = lambda given: (),
) -> tuple[Any, ...]:
    r"""
    Reads the arguments of a JSON file, where one comes first, and of the command line over it.

    Args:
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.
        classes (`tuple[type, ...]`): Dataclasses of arguments.
        description (`str`): The command's docstring, with which its help begins.
        common (`Sequence[str]`, *optional*): The arguments that `--help` lists; `--help-all` lists all.
        complete (`Callable`, *optional*): Gets the names that are given, and returns words of the command line that
            come before all others.

    Returns:
        `tuple`: An instance of each class.

    Raises:
        `SystemExit`: With code 2 and a sentence, if an argument does not exist or has a value that it cannot have.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = RunArgumentParser(classes, description=description.split("\n\n")[0].strip(), allow_abbrev=False)
    parser.add_argument("--help-all", action="help", help="Lists all arguments.")
    if common and {"-h", "--help"} & set(argv):
        print(short_help(classes, parser.help, description, common))
        parser.exit()
    try:
        words = argv
        if argv and not argv[0].startswith("-"):
            words = [*as_words(read_config(argv[0])), *argv[1:]]
        words = [*complete(names_in(words)), *words]
        *parsed, rest = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
        items = [item for of_class in classes for item in fields(of_class)]
        known = [name.strip("-") for item in items for name in (item.name, *item.metadata.get("aliases", []))]
        did_you_mean("The command line or configuration", names_in(rest), known)
        if rest:
            raise ValueError(f"The command line has {rest[0]!r}, which belongs to no argument.")
        return tuple(parsed)
    except ValueError as error:
        parser.error(str(error))


__all__ = ["DataArguments", "JsonObject", "read_arguments"]
