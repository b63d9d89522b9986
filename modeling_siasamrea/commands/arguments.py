"""Arguments of a run: a JSON file of them, the command line over it, and a sentence for each that makes no sense."""

import difflib
import json
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ..configuration_siasamrea import TASKS, SiaSamReaConfig
from ..preparation.sample_data import SampleData
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessorKwargs
from ..video_language.settings import VideoLanguageSettings
from .packaged_files import CONFIGS
from .parser import ArgumentParser


def refuse_unknown(given: Collection[str], known: Collection[str], where: str, kind: str) -> None:
    r"""
    Refuses names that do not exist.

    Args:
        given (`Collection[str]`): The names.
        known (`Collection[str]`): Those there are.
        where (`str`): What they were given to, for the message.
        kind (`str`): What they name, in the plural.

    Raises:
        `ValueError`: Says which do not exist, each with the nearest that does.
    """
    unknown = []
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), sorted(known), n=1)
            unknown.append(f"{name} (did you mean {nearest[0]}?)" if nearest else str(name))
    if unknown:
        raise ValueError(f"{where} has {kind} that do not exist: {', '.join(unknown)}.")


def config_names(config_class: type[PreTrainedConfig]) -> set[str]:
    """The fields of a configuration class, under each of their names."""
    names = {item.name for item in fields(config_class)}
    return names | config_class().to_dict().keys() | config_class.attribute_map.keys()


def check_model_config(given: Mapping[str, Any]) -> None:
    """
    Refuses fields that [`SiaSamReaConfig`] lacks, or the configuration of an encoder whose model type is given; that
    of others is known when they are loaded.
    """
    refuse_unknown(given, config_names(SiaSamReaConfig) | {"attn_implementation"}, "model_config", "fields")
    check_attention(given.get("attn_implementation"))
    for encoder in SiaSamReaConfig.sub_configs:
        part = given.get(encoder) or {}
        if not isinstance(part, Mapping):
            raise ValueError(f"model_config: {encoder} must be a JSON object; got {part!r}.")
        if "model_type" in part:
            model_type = part["model_type"]
            refuse_unknown([model_type], CONFIG_MAPPING.keys(), f"model_config: {encoder}", "model types")
            refuse_unknown(part, config_names(CONFIG_MAPPING[model_type]), f"model_config: {encoder}", "fields")


def check_attention(given: Any) -> None:
    """Refuses what is not the name of an implementation, for all attention or for that of each encoder."""
    encoders, where = SiaSamReaConfig.sub_configs, "model_config: attn_implementation"
    by_encoder = given if isinstance(given, Mapping) else dict.fromkeys(encoders, given)
    refuse_unknown(by_encoder, encoders, where, "encoders")
    for name in by_encoder.values():
        if not isinstance(name, str | None):
            raise ValueError(f"{where} must be a name such as eager; got {name!r}.")


def check_video_processor(given: Mapping[str, Any]) -> None:
    """Refuses settings that [`SiaSamReaVideoProcessor`] lacks, or that belong to a call."""
    of_a_call = {"training", "seed", "start", "end", "video_metadata", "return_metadata", "return_tensors"}
    known = get_type_hints(SiaSamReaVideoProcessorKwargs).keys() - of_a_call
    refuse_unknown(given, known, "video_processor", "settings")


def check_sample_data(given: Mapping[str, Any]) -> None:
    """Refuses parameters that [`SampleData`] lacks, or of another type."""
    hints = get_type_hints(SampleData)
    refuse_unknown(given, hints, "sample_data", "parameters")
    for name, value in given.items():
        if isinstance(value, str) or not fits(value, hints[name]):
            raise ValueError(f"sample_data: {name} must be of type {hints[name].__name__}; got {value!r}.")


def check_method(given: Mapping[str, Any]) -> None:
    """Refuses settings that [`VideoLanguageSettings`] lacks."""
    refuse_unknown(given, {item.name for item in fields(VideoLanguageSettings)}, "method", "settings")


def check_family_video_processor(given: Mapping[str, Any]) -> None:
    """Refuses nothing: which settings there are is known when the model is."""


# Arguments that are JSON objects, merged key by key over those of a file, and what refuses their unknown names.
DICTIONARIES = {
    "model_config": check_model_config,
    "video_processor": check_video_processor,
    "sample_data": check_sample_data,
    "method": check_method,
    "family_video_processor": check_family_video_processor,
}


@dataclass
class DataArguments:
    """
    The questions: JSONL or CSV files, a data set known to `datasets`, or benchmarks in their official files. Columns:
    video, question, answer, and optionally candidates, task, start, end, question_type and question_id. Training rows
    without an answer are for the siamese loss alone, and none of video-language models; test rows without one are
    answered only.
    """

    train_file: str | None = field(
        default=None, metadata={"help": "Training rows; `siasamrea train` also takes some without an answer."}
    )
    validation_file: str | None = field(default=None, metadata={"help": "Rows for --do_eval."})
    test_file: str | None = field(default=None, metadata={"help": "Rows for --do_predict; answers may be missing."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "A data set for datasets.load_dataset, with splits train, validation, test."}
    )
    benchmarks: list[str] | None = field(
        default=None,
        metadata={"help": "Names that modeling_siasamrea.benchmarks.load_benchmark knows; trained together."},
    )
    annotations: str | None = field(default=None, metadata={"help": "Folder of the benchmarks' annotation files."})
    video_folder: str | None = field(default=None, metadata={"help": "Folder that relative video paths start from."})
    task: str | None = field(
        default=None, metadata={"help": "Task of rows that name none: open_ended, multiple_choice or count."}
    )
    skip_list: str | None = field(
        default=None, metadata={"help": "JSONL file whose column video names videos to leave out in training."}
    )
    sample_data: dict | str | None = field(
        default=None,
        metadata={
            "help": "Arguments of make_sample_data as JSON: it makes the data in train_file's folder if it is missing."
        },
    )
    show_example: bool = field(
        default=False, metadata={"help": "Whether to answer one test question at the end and draw the clips."}
    )

    def __post_init__(self):
        if self.task is not None:
            refuse_unknown([self.task], TASKS, "--task", "tasks")
        if self.benchmarks and not self.annotations:
            raise ValueError("--benchmarks needs --annotations, the folder of their annotation files.")
        if self.sample_data is not None and self.train_file is None:
            raise ValueError("--sample_data needs --train_file, in whose folder the data is made.")


def read_config(name: str) -> dict[str, Any]:
    r"""
    Arguments in a JSON file.

    Args:
        name (`str`): The file, or the name of a recipe in `examples/configs`, such as `quickstart`.

    Raises:
        `ValueError`: If it cannot be read or is not a JSON object.
    """
    recipe = CONFIGS / f"{name}.json"
    path = recipe if recipe.is_file() and not Path(name).exists() else Path(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The configuration {name} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"The configuration {name} must be a JSON object of arguments; it is {content!r:.60}.")
    return content


class RunArgumentParser(HfArgumentParser, ArgumentParser):
    """Transformers' parser for dataclasses, which refuses bad usage as the other commands do."""


def read_arguments(
    argv: Sequence[str] | None, classes: tuple[type, ...], description: str, **defaults: Any
) -> tuple[Any, ...]:
    r"""
    The arguments of a JSON file, where one comes first, and of the command line over it.

    Args:
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.
        classes (`tuple[type, ...]`): Dataclasses of arguments.
        description (`str`): The command's docstring, whose first paragraph is in its help.
        defaults: Values of arguments that neither gives.

    Returns:
        `tuple`: an instance of each class; dictionaries are merged key by key.

    Raises:
        `SystemExit`: With code 2 and a sentence, if an argument or a name inside a dictionary does not exist, or has a
            value that it cannot have.
    """
    summary = description.split("\n\n")[0].strip()  # the defaults' formatter would run all of it together
    parser = RunArgumentParser(classes, description=summary, allow_abbrev=False)
    parser.add_argument(
        "config", nargs="?", help="A JSON file of arguments, or a packaged recipe; it must come first."
    )
    hints = {name: hint for of_class in classes for name, hint in get_type_hints(of_class).items()}
    known = [action.dest for action in parser._actions if action.dest in hints]
    try:
        given, rest = parser.parse_known_args(argv)
        options = [f"--{name}" for name in known]
        unknown = [text.split("=")[0] for text in rest if text.startswith("-")]
        refuse_unknown(unknown, options, "The command line", "arguments")
        if rest:
            raise ValueError(f"The command line has {rest[0]!r}, which belongs to no argument.")
        from_file = {} if given.config is None else read_config(given.config)
        refuse_unknown(from_file, known, f"The configuration {given.config}", "arguments")
        for name, value in from_file.items():
            if not fits(value, hints[name]):
                raise ValueError(f"The configuration {given.config}: {name} cannot be {value!r}.")
        in_file = {name: value for name, value in from_file.items() if name not in DICTIONARIES}
        parser.set_defaults(**defaults | in_file)
        given = parser.parse_known_args(argv)[0]
        for name in DICTIONARIES.keys() & known:
            setattr(given, name, merged(name, from_file.get(name), getattr(given, name)))
        return tuple(
            of_class(**{item.name: getattr(given, item.name) for item in fields(of_class) if item.init})
            for of_class in classes
        )
    except ValueError as error:
        parser.error(" ".join(str(error).split()))


def merged(name: str, in_file: dict | str | None, given: dict | str | None) -> dict[str, Any] | None:
    """A dictionary argument: JSON of the command line over that of the file, each name known."""
    parts = [decoded(name, part) for part in (in_file, given) if part is not None]
    if not parts:
        return None
    value = {key: part for one in parts for key, part in one.items()}
    DICTIONARIES[name](value)
    return value


def decoded(name: str, value: dict | str) -> dict[str, Any]:
    """A JSON object, given as such or as text."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"--{name} must be a JSON object; {value!r} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ValueError(f"--{name} must be a JSON object; got {value!r}.")
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is one of a type; text may stand for a number or a switch, as on the command line."""
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if value is None or hint is Any:
        return hint in (Any, type(None))
    if origin is list:
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict)
    if isinstance(value, str):
        return hint in (str, bool, int, float) or (isinstance(hint, type) and issubclass(hint, Enum))
    if isinstance(value, bool):
        return hint is bool
    return (isinstance(value, int) and hint in (int, float)) or (isinstance(value, float) and hint is float)


__all__ = ["DataArguments", "read_arguments", "refuse_unknown"]
