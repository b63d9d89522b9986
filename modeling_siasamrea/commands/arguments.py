"""Arguments of a run, of a JSON file and of the command line, read by one parser."""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import HfArgumentParser

from ..configuration_siasamrea import did_you_mean
from ..data.tables import parse_json, read_json
from .packaged_files import CONFIGS
from .parser import ArgumentParser


ALIASES = {"model_name_or_path": "model", "video_folder": "videos", "output_dir": "output"}  # as other commands say


class JsonObject(argparse.Action):
    """Reads an argument that is a JSON object. Given again, its keys go over those given before."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Merges the object into what the namespace has."""
        value = parse_json(values, f"--{self.dest}", dict)
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
    video_folder: str | None = None
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


def read_config(name: str) -> tuple[str, dict[str, Any]]:
    r"""
    Reads the arguments in a JSON file.

    Args:
        name (`str`): The file, or the name of a recipe in `examples/configs`, such as `quickstart`.

    Returns:
        `tuple`: The path of the file and its content.

    Raises:
        `ValueError`: If it cannot be read or is not a JSON object.
    """
    recipes = {path.stem: path for path in CONFIGS.glob("*.json")}
    path = Path(name)
    if not path.exists():
        did_you_mean("The list of recipes", [name], recipes, cutoff=0.6)
        path = recipes.get(name, path)
    return str(path), read_json(path, dict)


def as_words(name: str, value: Any) -> list[str]:
    """Writes a setting of a JSON file as words of a command line; null leaves an argument at its default."""
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [] if value is None else [f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"]


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
    """Transformers' parser for dataclasses, with the help of their docstrings and the names of other commands."""

    def __init__(self, classes: Sequence[type], **kwargs: Any):
        self.help = {name: text for of_class in classes for name, text in help_of(of_class).items()}
        super().__init__(classes, **kwargs)

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        """Adds an argument."""
        name = names[0].lstrip("-")
        kwargs.setdefault("help", self.help.get(name, "").replace("%", "%%"))
        return super().add_argument(*names, *([f"--{ALIASES[name]}"] if name in ALIASES else []), **kwargs)

    def short_help(self, description: str, common: Sequence[str]) -> str:
        """Writes the help with the most used arguments only."""
        lines = [f"usage: {self.prog} [--ARGUMENT VALUE ...]", "", description.strip(), ""]
        lines += [f"  --{ALIASES.get(name, name):30s}{self.help[name].split('. ')[0].rstrip('.')}" for name in common]
        return "\n".join(
            [*lines, "", "A JSON file or packaged recipe may come first. --help-all lists all arguments."]
        )


def read_arguments(
    argv: Sequence[str] | None,
    classes: tuple[type, ...],
    description: str,
    common: Sequence[str] = (),
    defaults: Callable[[set[str]], dict[str, Any]] = lambda given: {},
) -> tuple[Any, ...]:
    r"""
    Reads the arguments of a JSON file, where one comes first, and of the command line over it.

    Args:
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.
        classes (`tuple[type, ...]`): Dataclasses of arguments.
        description (`str`): The command's docstring, with which its help begins.
        common (`Sequence[str]`, *optional*): The arguments that `--help` lists; `--help-all` lists all.
        defaults (`Callable`, *optional*): Gets the names that are given and returns defaults of other arguments.

    Returns:
        `tuple`: An instance of each class.

    Raises:
        `SystemExit`: With code 2 and a sentence, if an argument does not exist or has a value that it cannot have.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = RunArgumentParser(classes, description=description.split("\n\n")[0].strip())
    parser.add_argument("--help-all", action="help", help="Lists all arguments.")
    if common and {"-h", "--help"} & set(argv):
        print(parser.short_help(description, common))
        parser.exit()
    try:
        file, content = read_config(argv.pop(0)) if argv and not argv[0].startswith("-") else (None, {})
        given = {word.split("=")[0].strip("-").replace("-", "_") for word in argv if word.startswith("--")}
        given |= {name for name, alias in ALIASES.items() if alias in given}
        parser.set_defaults(**defaults(given | content.keys()))
        parser.file, read = file, argparse.Namespace()
        for setting in content.items():
            _, others = parser.parse_known_args(as_words(*setting), read)
            if others:
                parser.error(f"--{setting[0]} takes one value; got {setting[1]!r:.100}.")
        parser.file = None
        return parser.parse_dict(vars(parser.parse_args(argv, read)), allow_extra_keys=True)
    except ValueError as error:
        parser.error(str(error))
