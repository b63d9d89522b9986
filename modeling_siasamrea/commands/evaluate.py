"""
Evaluates a model without training it: its answers to rows are scored as at the end of a training run.

    siasamrea evaluate my-model test.jsonl --videos videos
    siasamrea evaluate my-model --benchmarks msvd_qa --annotations annotations/msvd_qa --videos videos/msvd

The other arguments are those of `siasamrea train`, or for a video-language model those of `siasamrea train-vlm`.
Answers may be missing in a test file. Of a benchmark or data set, the test split is evaluated; --do_eval chooses the
validation split. With --train_file, the scores of two baselines that see no video stand beside the model's. Scores
and answers go to the folder `evaluation`, or --output_dir.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..training.start import NOT_LOADED
from ..video_language.loading import is_video_language_model
from . import train, train_vlm
from .run import Report


def as_named(argv: Sequence[str]) -> list[str]:
    """Names the arguments given by position: the model and the file of rows, in either order."""
    words = list(argv)
    by_position = []
    while words and not words[0].startswith("-"):
        by_position.append(words.pop(0))
    files = [word for word in by_position if Path(word).is_file()]
    models = [word for word in by_position if word not in files]
    return [f"--model_name_or_path={name}" for name in models] + [f"--test_file={name}" for name in files] + words


def is_of_video_language_model(argv: Sequence[str]) -> bool:
    """Tells whether the model on the command line is a video-language model; `False` if it cannot be loaded."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model_name_or_path", "--model")
    model = parser.parse_known_args(argv)[0].model_name_or_path
    try:
        return model is not None and is_video_language_model(model)
    except NOT_LOADED:
        return False  # the command says what is missing


def what_to_do(given: set[str]) -> list[str]:
    """Evaluates the rows that are given; of a benchmark or data set its test split."""
    words = ["--do_train=false", "--output_dir=evaluation"]
    if given & {"do_eval", "do_predict"}:
        return words
    words += ["--do_eval"] if "validation_file" in given else []
    return words + (["--do_predict"] if "test_file" in given or "validation_file" not in given else [])


def main(argv: Sequence[str] | None = None) -> Report:
    r"""
    Command line.

    Returns:
        `dict[str, dict]`: The content of metrics.json.

    Raises:
        `ValueError`: If there is no model, or its own folder would get the report of this evaluation.
    """
    argv = as_named(sys.argv[1:] if argv is None else argv)
    command = train_vlm if is_of_video_language_model(argv) else train
    arguments, data, training = command.parse_arguments(argv, __doc__, what_to_do)
    model = arguments.model_name_or_path
    if model is None:
        raise ValueError("Which model? siasamrea evaluate MODEL ROWS.")
    if Path(model).resolve() == Path(training.output_dir).resolve():
        raise ValueError(f"The reports of {model} would be overwritten: give another --output_dir.")
    training.do_train = False
    return command.train(arguments, data, training)
