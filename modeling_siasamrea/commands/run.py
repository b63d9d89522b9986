"""The steps that the training commands share: start, train or resume, evaluate, and report."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProcessorMixin, ProgressCallback, TrainingArguments, set_seed

from ..data.questions import VideoQuestion
from ..demo.clips_picture import draw_answer
from ..evaluation.baselines import majority_baseline, question_only_baseline
from ..evaluation.confusion import answer_texts
from ..evaluation.scores import score_predictions
from ..training.base_trainer import VideoQuestionTrainer
from ..training.checkpoints import last_whole_checkpoint
from .arguments import DataArguments
from .model_card import write_model_card
from .printing import ProgressLines, one_line, score_table, verdict
from .run_rows import Rows, RunRows, load_rows
from .training_picture import save_training_picture


Report = dict[str, dict]
EXAMPLES = 4  # questions that are shown at the end


class Evaluated(NamedTuple):
    """A split that was answered: name, rows, lines of its predictions file, scores, and scores of the baselines."""

    title: str
    rows: Rows
    lines: list[dict]
    scores: dict[str, float]
    baselines: dict[str, dict[str, float]]


def start_run(data: DataArguments, training: TrainingArguments) -> RunRows:
    r"""
    Begins a run: logging, seed, output folder, and its rows.

    Raises:
        `OSError`: If the output folder cannot be made.
        `ValueError`: If rows are missing or make no sense.
    """
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING, format="%(message)s")
    for package in ("httpx", "datasets", "evaluate", "fsspec", "matplotlib"):
        logging.getLogger(package).setLevel(logging.WARNING)
    set_seed(training.seed)
    Path(training.output_dir).mkdir(parents=True, exist_ok=True)  # before anything is computed for it
    return load_rows(data, training)


def run(
    trainer_class: type[VideoQuestionTrainer],
    dataset_class: type[Dataset],
    model: nn.Module,
    processor: ProcessorMixin,
    training: TrainingArguments,
    train: Rows,
    rows: RunRows,
    data: DataArguments,
    started_from: Sequence[str | None],
) -> Report:
    r"""
    Trains or resumes, evaluates and reports, as the arguments say.

    Args:
        trainer_class, dataset_class: The trainer, and the data set of rows, of the kind of model.
        model (`nn.Module`): The model.
        processor (`ProcessorMixin`): Its processor.
        training ([`~transformers.TrainingArguments`]): What is to be done.
        train (`list[VideoQuestion]`): The training rows that the model can learn from.
        rows ([`RunRows`]): All rows.
        data ([`DataArguments`]): Where the questions came from.
        started_from (`Sequence[str | None]`): The models that training started from, as they were given.

    Returns:
        `dict[str, dict]`: The content of metrics.json: `train`, `validation` and `test` with `scores` and `baselines`.
    """
    validation = {name: dataset_class(of_source, processor) for name, of_source in rows.validation.items()}
    datasets = {"eval_dataset": validation.get("", validation) or None}
    if training.do_train:
        datasets["train_dataset"] = dataset_class(train, processor)
    trainer = trainer_class(model, training, processing_class=processor, **datasets)
    output_dir = Path(training.output_dir)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(ProgressLines)
    report: Report = {}
    if training.do_train:
        report["train"] = {"scores": train_or_resume(trainer)}
    evaluated = [
        evaluate(trainer, of_source, dataset_class(of_source, processor), rows.train, split, name)
        for split, of_split in (("validation", rows.validation), ("test", rows.test))
        for name, of_source in of_split.items()
    ]
    report |= {of.title: {"scores": of.scores, "baselines": of.baselines} for of in evaluated}
    if trainer.is_world_process_zero():
        (output_dir / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if training.do_train:
            last = evaluated[-1] if evaluated else Evaluated("train", rows.train, [], {}, {})
            save_training_picture(output_dir / "training.png", trainer.state.log_history, last.lines)
            write_model_card(
                output_dir / "README.md",
                config=trainer.method,
                arguments=training,
                data=data,
                rows={"train": rows.train} | {of.title: of.rows for of in evaluated},
                unreadable={"train": report["train"]["scores"].get("skipped_questions", 0)}
                | {of.title: of.scores.get("unreadable", 0) for of in evaluated},
                scores=last.scores,
                baselines=last.baselines,
                started_from=[name for name in started_from if name is not None],
            )
        if data.show_examples and evaluated:
            show_examples(trainer, evaluated[-1])
        files = {} if training.do_train else {"validation": data.validation_file, "test": data.test_file}
        print_report(evaluated, files)
        print(f"\n{output_dir} has {'the model, its card and ' * training.do_train}all scores in metrics.json.")
    if training.push_to_hub:
        trainer.push_to_hub()
    return report


def train_or_resume(trainer: VideoQuestionTrainer) -> dict[str, float]:
    """Trains, from the last whole checkpoint in the output folder if there is one, and saves the model."""
    resume = trainer.args.resume_from_checkpoint
    resume = {"true": True, "false": False}.get(str(resume).lower(), resume)  # a command line has words only
    if resume is None:
        resume = last_whole_checkpoint(trainer.args.output_dir)
    result, state = trainer.train(resume_from_checkpoint=resume), trainer.state
    if trainer.args.load_best_model_at_end and state.best_global_step and state.is_world_process_zero:
        metric = trainer.args.metric_for_best_model.removeprefix("eval_")
        best = f"its validation {metric} of {state.best_metric:.3f} is the best"
        print(f"The model of step {state.best_global_step} is kept: of the evaluations on the way, {best}.")
    trainer.save_model()
    trainer.save_state()
    if (skipped := result.metrics.get("skipped_questions")) and state.is_world_process_zero:
        print(
            f"Questions left out of training, because their video cannot be read: {skipped}, see skipped_videos.jsonl."
        )
    return result.metrics


def evaluate(
    trainer: VideoQuestionTrainer, rows: Rows, dataset: Dataset, train: Rows, split: str, name: str
) -> Evaluated:
    """Answers the rows of a split (of a benchmark, by name) and writes the answers into the output folder."""
    output = trainer.predict(dataset, metric_key_prefix=split)
    if trainer.is_world_process_zero():
        file_name = "predictions" if split == "test" else f"{split}_predictions"
        path = Path(trainer.args.output_dir) / (f"{file_name}_{name}.jsonl" if name else f"{file_name}.jsonl")
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in output.predictions)
        path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    scores = {key.removeprefix(f"{split}_"): value for key, value in output.metrics.items()}
    title = f"{split}_{name}" if name else split
    return Evaluated(title, rows, output.predictions, scores, baseline_scores(train, rows))


def baseline_scores(train: Rows, evaluated: Rows) -> dict[str, dict[str, float]]:
    """Scores the two baselines that see no video, if there are training rows to learn them from."""
    known = {row.task for row in train if row.answer is not None}
    answered = [row for row in evaluated if row.task in known and row.answer is not None]
    if not answered:
        return {}
    return {
        "majority": score_predictions(answered, majority_baseline(train, answered)),
        "question only": score_predictions(answered, question_only_baseline(train, answered)),
    }


def print_report(evaluated: Sequence[Evaluated], files: Mapping[str, str | None]) -> None:
    """
    Prints the scores of each split, with the name of its file if that is given, and a sentence if the model is no
    better than answers without the video.
    """
    for of in evaluated:
        unreadable = of.scores.get("unreadable", 0)
        left = f", wrong because their video cannot be read: {unreadable:.0f}" if unreadable else ""
        table = score_table(files.get(of.title) or of.title, of.scores, of.baselines)
        print(f"\n{table}\nQuestions: {len(of.rows)}{left}.")
        sentence = verdict(of.scores, of.baselines)
        if sentence is not None:
            print(sentence)


def show_examples(trainer: VideoQuestionTrainer, evaluated: Evaluated) -> None:
    """Prints some questions with the model's answers, of several kinds and about several videos, and draws each."""
    for number, (row, line) in enumerate(choose_examples(evaluated.rows, evaluated.lines), 1):
        rights, given = answer_texts(line)
        picture = Path(trainer.args.output_dir) / f"example_{number}.png"
        draw_answer(row, str(given), trainer.processing_class.video_processor, picture)
        print(f"\n{one_line(row.video)}\nQ: {one_line(row.question)}")
        print(f"A: {one_line(given)}   (annotated: {one_line(' or '.join(rights) or None)})   {picture}")


def choose_examples(rows: Rows, lines: Sequence[dict]) -> list[tuple[VideoQuestion, dict]]:
    """Chooses readable rows with their lines: one of each kind of question, and about different videos, first."""
    readable = [(row, line) for row, line in zip(rows, lines) if line.get("prediction") is not None]
    kinds: dict[tuple, list[tuple[VideoQuestion, dict]]] = {}
    for row, line in readable:
        kinds.setdefault((row.task, row.question_type), []).append((row, line))
    chosen = [of_kind[number % len(of_kind)] for number, of_kind in enumerate(kinds.values())]
    return (chosen + [pair for pair in readable if pair not in chosen])[:EXAMPLES]
