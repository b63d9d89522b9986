"""The rows of a run: the training, validation and test questions that its arguments name."""

import logging
from pathlib import Path
from typing import NamedTuple

from transformers import TrainingArguments

from ..benchmarks import load_benchmark
from ..data.questions import VideoQuestion, load_video_questions, read_skip_list
from ..preparation.sample_data import make_sample_data
from ..processors.video_source import absolute_path
from .arguments import DataArguments


logger = logging.getLogger(__name__)

Rows = list[VideoQuestion]


class RunRows(NamedTuple):
    """
    The questions of a run.

    Args:
        train (`list[VideoQuestion]`):
            Training rows, also where only the baselines use them. Answers may be missing.
        validation (`dict[str, list[VideoQuestion]]`): Rows by benchmark name, or by "" for other data.
        test (`dict[str, list[VideoQuestion]]`): The same; answers may be missing.
    """

    train: Rows
    validation: dict[str, Rows]
    test: dict[str, Rows]


def load_rows(data: DataArguments, training: TrainingArguments) -> RunRows:
    r"""
    Reads the rows that a run needs. First makes the sample data, if it is asked for and missing.

    Args:
        data ([`DataArguments`]): Where the rows are.
        training ([`~transformers.TrainingArguments`]): What is to be done with them.

    Raises:
        `ValueError`: If something is to be done with rows that no argument names, or rows make no sense.
    """
    wanted = [training.do_train, training.do_eval, training.do_predict]
    if not any(wanted):
        raise ValueError("There is nothing to do: give --train_file, --validation_file or --test_file.")
    if data.benchmarks and Path(data.annotations).is_file() and sum(wanted) * len(data.benchmarks) > 1:
        raise ValueError(f"--annotations must be a folder, to read several splits from; {data.annotations} is a file.")
    if data.sample_data is not None:
        with training.main_process_first(desc="sample data"):
            make_sample_data(Path(data.train_file).parent, **data.sample_data)
    if data.video_folder is not None and not Path(data.video_folder).is_dir():
        raise ValueError(f"The video folder {data.video_folder} does not exist.")
    return RunRows(
        train=training_rows(data) if training.do_train or data.train_file else [],
        validation=load_split(data, "validation") if training.do_eval else {},
        test=load_split(data, "test", require_answers=False) if training.do_predict else {},
    )


def load_split(data: DataArguments, split: str, require_answers: bool = True) -> dict[str, Rows]:
    """Loads the rows of a split by benchmark name, or by "" for other data; a `ValueError` if there are none."""
    if data.benchmarks:
        rows = {name: load_benchmark(name, data.annotations, data.video_folder, split) for name in data.benchmarks}
        return {name: load_video_questions(of, require_answers=require_answers) for name, of in rows.items()}
    source = data.dataset_name or getattr(data, f"{split}_file")
    if source is None:
        raise ValueError(f"There are no {split} rows: give --{split}_file, --dataset_name or --benchmarks.")
    options = data.options_in_question
    return {"": load_video_questions(source, data.video_folder, split, data.task, require_answers, options)}


def training_rows(data: DataArguments) -> Rows:
    """Loads all training rows except those of videos in the skip list."""
    rows = [row for of_source in load_split(data, "train", require_answers=False).values() for row in of_source]
    if data.skip_list is None:
        return rows
    skipped = read_skip_list(data.skip_list, data.video_folder)
    kept = [row for row in rows if absolute_path(row.video) not in skipped]
    logger.warning(f"Training rows left out, whose videos {data.skip_list} names: {len(rows) - len(kept)}.")
    if not kept:
        raise ValueError(f"No training row is left: the skip list {data.skip_list} names the videos of all of them.")
    return kept
