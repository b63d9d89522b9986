"""
Evaluates a model without training it: its answers to rows are scored as at the end of a training run.

    siasamrea evaluate my-model test.jsonl --videos videos
    siasamrea evaluate my-model --benchmarks msvd_qa --annotations annotations/msvd_qa --videos videos/msvd

Answers may be missing in a test file. Of a benchmark or data set, the test split is evaluated; --do_eval chooses the
validation split. With --train_file, the scores of two baselines that see no video stand beside the model's. All other
arguments are those of `siasamrea train`, or for a video-language model those of `siasamrea train-vlm`.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..data.tables import SUFFIXES
from ..training.start import explained
from ..video_language.loading import is_video_language_model
from . import train, train_vlm
from .arguments import read_arguments
from .run import Report


# The arguments that `--help` lists.
COMMON = ("model_name_or_path", "test_file", "validation_file", "train_file", "video_folder", "dataset_name")
COMMON += ("benchmarks", "annotations", "output_dir", "per_device_eval_batch_size", "eval_offsets", "save_frames")


def as_named(argv: Sequence[str]) -> list[str]:
    """Names the arguments given by position: the model and the file of rows, in either order."""
    by_position = list(takewhile(lambda word: not word.startswith("-"), argv))
    names = ("test_file" if Path(word).suffix.lower() in SUFFIXES else "model" for word in by_position)
    return [f"--{name}={word}" for name, word in zip(names, by_position)] + list(argv[len(by_position) :])


def what_to_do(given: set[str]) -> dict[str, Any]:
    """Evaluates the rows that are given; of a benchmark or data set its test split."""
    defaults = {"output_dir": "evaluation"}
    if not given & {"do_eval", "do_predict"}:
        defaults["do_eval"] = "validation_file" in given
        defaults["do_predict"] = "test_file" in given or "validation_file" not in given
    return defaults


def main(argv: Sequence[str] | None = None) -> Report:
    r"""
    Command line.

    Returns:
        `dict[str, dict]`: The content of metrics.json.

    Raises:
        `ValueError`: If there is no model, or its own folder would get the report of this evaluation.
    """
    argv = as_named(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model", "--model_name_or_path")
    model = parser.parse_known_args(argv)[0].model
    with explained(f"The checkpoint {model} cannot be loaded", model):
        command = train_vlm if model is not None and is_video_language_model(model) else train
    arguments, data, training = read_arguments(argv, command.CLASSES, __doc__, COMMON, what_to_do)
    if model is None:
        raise ValueError("Which model? siasamrea evaluate MODEL ROWS.")
    if Path(model).resolve() == Path(training.output_dir).resolve():
        raise ValueError(f"The reports of {model} would be overwritten: give another --output.")
    training.do_train = False
    return command.train(arguments, data, training)
