"""
Evaluates a checkpoint without training it: rows are answered and scored as at the end of a training run.

    siasamrea evaluate my-model --test_file test.jsonl --video_folder videos
    siasamrea evaluate my-model --benchmarks msvd_qa --annotations annotations/msvd_qa --video_folder videos/msvd

After the checkpoint come the arguments of `siasamrea train`. `--validation_file` and `--test_file` (whose answers may
be missing) are evaluated, of a benchmark or data set the test split; `--do_eval` and `--do_predict` choose otherwise.
Scores and answers go to the folder `evaluation`, or `--output_dir`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from .run import Report
from .train import parse_arguments, train


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
    arguments, data, training = parse_arguments(argv, __doc__, output_dir="evaluation")
    checkpoint = arguments.model_name_or_path
    if checkpoint is None:
        raise ValueError("Which checkpoint? siasamrea evaluate CHECKPOINT, then the rows.")
    if Path(checkpoint).resolve() == Path(training.output_dir).resolve():
        raise ValueError(f"The reports of {checkpoint} would be overwritten: give another --output_dir.")
    training.do_train = False
    if not (training.do_eval or training.do_predict):
        training.do_eval = data.validation_file is not None
        training.do_predict = data.test_file is not None or not training.do_eval
    return train(arguments, data, training)
