"""What every training command does alike: start, train or resume, evaluate, report, and finish."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from torch.utils.data import Dataset
from transformers import TrainingArguments, pipeline, set_seed

from ..demo.clips_picture import draw_answer
from ..evaluation.baselines import majority_baseline, question_only_baseline
from ..evaluation.scores import score_predictions
from ..processors.video_decoding import VideoDecodingError
from ..training.checkpoints import last_whole_checkpoint
from ..training.trainer import SiaSamReaTrainer
from .arguments import DataArguments
from .model_card import write_model_card
from .rows import Rows, RunRows, load_rows


logger = logging.getLogger(__name__)

Report = dict[str, dict]


def start_run(data: DataArguments, training: TrainingArguments) -> RunRows:
    r"""
    Begins a run: logging, seed, output folder, and its rows.

    Raises:
        `ValueError`: If the output folder cannot be made, or rows are missing or make no sense.
    """
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING, format="%(message)s")
    set_seed(training.seed)
    make_output_folder(training)
    return load_rows(data, training)


def make_output_folder(training: TrainingArguments) -> None:
    """Makes the output folder, before anything is computed for it; a `ValueError` says why it cannot be made."""
    try:
        Path(training.output_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"The output folder {training.output_dir} cannot be made: {error.strerror}.") from None


def run(trainer: SiaSamReaTrainer, rows: RunRows, make_dataset: Callable[[Rows], Dataset]) -> Report:
    r"""
    Trains, resuming from the last whole checkpoint where there is one, and evaluates, as the arguments ask for.

    Args:
        trainer ([`SiaSamReaTrainer`] or [`VideoLanguageTrainer`]): The trainer.
        rows ([`RunRows`]): The questions.
        make_dataset (`Callable`): Makes a data set of rows to evaluate.

    Returns:
        `dict[str, dict]`: what metrics.json holds: `train`, `validation` and `test` with `scores` and `baselines`.
    """
    training, output_dir = trainer.args, Path(trainer.args.output_dir)
    report: Report = {}
    if training.do_train:
        resume = training.resume_from_checkpoint
        resume = {"true": True, "false": False}.get(str(resume).lower(), resume)  # a command line has words only
        if resume is None or resume is True:
            last = last_whole_checkpoint(output_dir)
            if last is not None:
                logger.warning(f"The run resumes from {last}.")
            resume = last or resume
        result = trainer.train(resume_from_checkpoint=resume)
        trainer.save_model()
        trainer.save_state()
        report["train"] = {"scores": result.metrics}
    report |= evaluate(trainer, rows.validation, make_dataset, rows.train, "validation")
    report |= evaluate(trainer, rows.test, make_dataset, rows.train, "test")
    if trainer.is_world_process_zero():
        (output_dir / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def evaluate(
    trainer: SiaSamReaTrainer, rows: dict[str, Rows], make_dataset: Callable[[Rows], Dataset], train: Rows, split: str
) -> Report:
    """Answers the rows, writes the answers beside the checkpoint, and returns scores and those of the baselines."""
    report = {}
    for name, of_source in rows.items():
        output = trainer.predict(make_dataset(of_source), metric_key_prefix=split)
        scores = {key.removeprefix(f"{split}_"): value for key, value in output.metrics.items()}
        title = f"{split}_{name}" if name else split
        report[title] = {"scores": scores, "baselines": baseline_scores(train, of_source)}
        if trainer.is_world_process_zero():
            file_name = "predictions" if split == "test" else f"{split}_predictions"
            file_name += f"_{name}.jsonl" if name else ".jsonl"
            write_predictions(Path(trainer.args.output_dir) / file_name, output.predictions)
            print_scores(title, scores, report[title]["baselines"])
    return report


def write_predictions(path: Path, predictions: list[dict]) -> None:
    """One line a row of the data, in its order."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in predictions), encoding="utf-8")


def baseline_scores(train: Rows, evaluated: Rows) -> dict[str, dict[str, float]]:
    """Scores of the two baselines that look at no video, where there are training rows to learn them from."""
    known = {row.task for row in train if row.answer is not None}
    answered = [row for row in evaluated if row.task in known and row.answer is not None]
    if not answered:
        return {}
    return {
        "majority": score_predictions(answered, majority_baseline(train, answered)),
        "question only": score_predictions(answered, question_only_baseline(train, answered)),
    }


def print_scores(title: str, scores: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    """A table of the scores beside those of the baselines."""
    columns = {"model": scores, **baselines}
    width = max(map(len, (title, *scores)))
    print(f"\n{title:{width}s}" + "".join(f"{name:>16s}" for name in columns))
    for name in scores:
        values = [column.get(name) for column in columns.values()]
        if values[0] is not None and not name.endswith(("runtime", "per_second", "preparation_time")):
            cells = (f"{'':>16s}" if value is None else f"{value:16.4f}" for value in values)
            print(f"{name:{width}s}" + "".join(cells))


def finish_run(
    trainer: SiaSamReaTrainer, rows: RunRows, report: Report, data: DataArguments, started_from: str | None
) -> None:
    r"""
    Writes the model card of a training run, shows an example and pushes to the hub, as the arguments ask for.

    Args:
        trainer ([`SiaSamReaTrainer`] or [`VideoLanguageTrainer`]): The trainer.
        rows ([`RunRows`]): The questions.
        report (`dict[str, dict]`): What [`run`] returned.
        data ([`DataArguments`]): Where the questions came from.
        started_from (`str`, *optional*): Hub name or folder of the model that was trained or evaluated.
    """
    training = trainer.args
    if trainer.is_world_process_zero():
        if training.do_train:
            write_card(trainer, report, data, started_from)
        if data.show_example and (rows.test or rows.validation):
            checkpoint = training.output_dir if training.do_train else started_from
            show_example(trainer, checkpoint, next(iter((rows.test or rows.validation).values())))
    if training.push_to_hub:
        trainer.push_to_hub()


def write_card(trainer: SiaSamReaTrainer, report: Report, data: DataArguments, base_model: str | None) -> None:
    """Writes the model card into the output folder, with the scores of the last split that was evaluated."""
    split, last_report = list(report.items())[-1]
    datasets = data.benchmarks or [data.dataset_name or Path(data.train_file).resolve().parent.name]
    write_model_card(
        Path(trainer.args.output_dir) / "README.md",
        config=trainer.siasamrea_config,
        arguments=trainer.args,
        dataset=", ".join(datasets),
        split=split,
        scores=last_report["scores"] if split != "train" else {},
        baselines=last_report.get("baselines", {}),
        base_model=base_model,
    )


def show_example(trainer: SiaSamReaTrainer, checkpoint: str, rows: Rows) -> None:
    """Asks a checkpoint about the first readable held-out video through the pipeline, and draws its clips."""
    answerer = pipeline("video-question-answering", model=checkpoint)
    for row in rows:
        request = {"video": row.video_source, "question": row.question, "task": row.task}
        request |= {"start": row.start, "end": row.end}
        if row.candidates is not None:
            request["candidates"] = list(row.candidates)
        try:
            answer = str(answerer(**request)[0]["answer"])
        except VideoDecodingError:
            continue
        annotated = row.answer if None in (row.candidates, row.answer) else row.candidates[row.answer]
        print(f"\n{row.video}\nQ: {row.question}\nA: {answer} (annotated: {annotated})")
        picture = Path(trainer.args.output_dir) / "example.png"
        draw_answer(row, answer, trainer.processing_class.video_processor, picture)
        print(f"Its clips with the answer: {picture}")
        return


__all__ = ["Report", "finish_run", "make_output_folder", "run", "start_run"]
