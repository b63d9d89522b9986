"""
Evaluates a checkpoint without training it: rows are answered and scored as at the end of a training run.

    siasamrea evaluate my-model --test_file test.jsonl --video_folder videos
    siasamrea evaluate my-model --benchmarks msvd_qa --annotations annotations/msvd_qa --video_folder videos/msvd

After the checkpoint come the arguments of `siasamrea train`, or for a video-language model those of `siasamrea
train_vlm`. `--validation_file` and `--test_file` (whose answers may be missing) are evaluated, of a benchmark or data
set the test split; `--do_eval` and `--do_predict` choose otherwise. Scores and answers go to the folder `evaluation`,
or `--output_dir`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..training.start import NOT_LOADED
from ..video_language.loading import is_video_language_model
from . import train, train_vlm
from .run import Report


def is_of_video_language_model(argv: Sequence[str]) -> bool:
    """Whether the checkpoint on the command line is that of a video-language model; not, if it cannot be loaded."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model_name_or_path")
    checkpoint = parser.parse_known_args(argv)[0].model_name_or_path
    try:
        return checkpoint is not None and is_video_language_model(checkpoint)
    except NOT_LOADED:
        return False  # the command says what is missing


def main(argv: Sequence[str] | None = None) -> Report:
    r"""
    Command line.

    Returns:
        `dict[str, dict]`: what metrics.json holds.

    Raises:
        `ValueError`: If there is no checkpoint, or its own folder would get the report of this evaluation.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = [*argv[1:], "--model_name_or_path", argv[0]]
    command = train_vlm if is_of_video_language_model(argv) else train
    arguments, data, training = command.parse_arguments(argv, __doc__, output_dir="evaluation")
    checkpoint = arguments.model_name_or_path
    if checkpoint is None:
        raise ValueError("Which checkpoint? siasamrea evaluate CHECKPOINT, then the rows.")
    if Path(checkpoint).resolve() == Path(training.output_dir).resolve():
        raise ValueError(f"The reports of {checkpoint} would be overwritten: give another --output_dir.")
    training.do_train = False
    if not (training.do_eval or training.do_predict):
        training.do_eval = data.validation_file is not None
        training.do_predict = data.test_file is not None or not training.do_eval
    return command.train(arguments, data, training)
