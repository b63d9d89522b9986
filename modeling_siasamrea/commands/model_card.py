"""The model card that a finished training run writes, from the template in `model_cards/`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..adapter_siasamrea import adapter_source
from ..configuration_siasamrea import SiaSamReaConfig
from ..data.questions import VideoQuestion
from ..training.arguments import VideoQuestionTrainingArguments
from ..video_language.settings import VideoLanguageSettings
from .arguments import DataArguments
from .packaged_files import MODEL_CARDS
from .printing import one_line, score_rows


# Scores of `score_predictions` that the card's metadata states, with the names the hub shows.
METRICS = {
    "open_ended_accuracy": ("accuracy", "Accuracy, open-ended, unknown answers wrong"),
    "multiple_choice_accuracy": ("accuracy", "Accuracy, multiple choice"),
    "count_mse": ("mse", "Mean squared error of counts"),
    "count_accuracy": ("accuracy", "Accuracy of rounded counts"),
}
# Settings that a card states, where the run has them.
METHOD = ("num_clips", "alpha", "omega", "affinity", "reasoning_weights", "detach", "supervised_clips")
METHOD += ("multiple_choice_loss", "freeze_batch_norm", "frozen_image_encoder_modules")
TRAINING = ("learning_rate", "image_encoder_learning_rate", "warmup_steps", "num_train_epochs", "max_steps")
TRAINING += ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size", "questions_per_video")
TRAINING += ("adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "seed")


def write_model_card(
    path: str | Path,
    config: SiaSamReaConfig | VideoLanguageSettings,
    arguments: VideoQuestionTrainingArguments,
    data: DataArguments,
    rows: Mapping[str, Sequence[VideoQuestion]],
    scores: dict[str, float],
    baselines: dict[str, dict[str, float]],
    started_from: Sequence[str],
) -> None:
    r"""
    Fills the template and writes the card, with `model-index` metadata as the hub reads it. No licence is stated: the
    user knows those of the data and of the models it started from.

    Args:
        path (`str` or `Path`): Where the card goes.
        config ([`SiaSamReaConfig`] or [`VideoLanguageSettings`]): The trained model's configuration or settings.
        arguments ([`VideoQuestionTrainingArguments`]): The run's arguments.
        data ([`DataArguments`]): Where the questions came from.
        rows (`Mapping[str, Sequence[VideoQuestion]]`): The training rows and those of each split that was evaluated.
        scores (`dict[str, float]`): Scores of the last split; empty if nothing was evaluated.
        baselines (`dict[str, dict[str, float]]`): Scores of answers that see no video, by their name.
        started_from (`Sequence[str]`): The models that training started from; none for random weights.
    """
    path, split = Path(path), list(rows)[-1]
    of_video_language = isinstance(config, VideoLanguageSettings)
    is_adapter = adapter_source(path.parent) is not None
    name = one_line(path.resolve().parent.name)
    card_data = ModelCardData(
        library_name="peft" if of_video_language and is_adapter else "transformers",
        pipeline_tag="visual-question-answering",
        tags=["siasamrea", "video-question-answering"],
        model_name=name,
        base_model=[name for name in started_from if not Path(name).exists()] or None,  # names of a hub
        eval_results=_eval_results(scores, one_line(source_of(data, split)), split) or None,
    )
    settings = {key: getattr(config, key) for key in METHOD if hasattr(config, key)}
    settings |= {key: getattr(arguments, key) for key in TRAINING if hasattr(arguments, key)}
    if of_video_language:
        fields = {"template_path": str(MODEL_CARDS / "video_language_template.md")}
        fields |= {"kind": "LoRA adapter" if is_adapter else "model"}
        prompts = asdict(config)["prompts"].items()
        fields["prompts"] = "\n".join(f"| {key} | {_cell(repr(prompt))} |" for key, prompt in prompts)
    else:
        fields = {"template_path": str(MODEL_CARDS / "template.md")}
        fields["vocabulary_size"] = config.num_labels if "open_ended" in config.tasks else 0
    card = ModelCard.from_template(
        card_data,
        model_name=name,
        base_model=", ".join(map(one_line, started_from)) or "random weights",
        tasks=", ".join(config.tasks),
        split=split,
        rows="\n".join(
            f"| {title} | {_cell(source_of(data, title))} | {len(of_title)} | {len({row.video for row in of_title})} |"
            for title, of_title in rows.items()
        ),
        example=example([row for of_title in rows.values() for row in of_title], config.tasks, name),
        hyperparameters="\n".join(f"| {key} | {_cell(value)} |" for key, value in settings.items()),
        scores=scores_table(scores, baselines) if scores else "Not evaluated.",
        **fields,
    )
    card.save(path)


def source_of(data: DataArguments, split: str) -> str:
    """Returns the data of a split as it was given."""
    file = getattr(data, f"{split}_file", None)
    return ", ".join(data.benchmarks or []) or data.dataset_name or file or "unknown"


def scores_table(scores: dict[str, float], baselines: dict[str, dict[str, float]]) -> str:
    """Writes the table of scores in Markdown, with the standard errors that are known."""
    columns = {"this model": scores, **baselines}
    lines = ["| score | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, title in score_rows(scores).items():
        cells = []
        for column in columns.values():
            error = column.get(f"{name}_standard_error")
            cells.append(
                "–" if name not in column else f"{column[name]:.4g}" + ("" if error is None else f" ± {error:.2g}")
            )
        lines.append(f"| {_cell(title)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def example(rows: Sequence[VideoQuestion], tasks: Sequence[str], name: str) -> str:
    """Writes Python code that asks the model a question of each of its tasks, taken from the rows."""
    lines = [f'answer = pipeline("video-question-answering", model={name!r})']
    for task in tasks:
        row = next((row for row in rows if row.task == task), None)
        if row is not None:
            given = {"video": "video.mp4", "question": row.question}
            given |= {"candidates": list(row.candidates)} if row.candidates else {}
            given |= {"task": task} if len(tasks) > 1 and not row.candidates else {}
            lines.append(f"print(answer({', '.join(f'{key}={value!r}' for key, value in given.items())}))")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return one_line(value).replace("|", "\\|")


def _eval_results(scores: dict[str, float], dataset: str, split: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type="video-question-answering",
            dataset_name=dataset,
            dataset_split=split,
            metric_type=kind,
            metric_name=title,
            metric_value=round(scores[name], 6),
        )
        for name, (kind, title) in METRICS.items()
        if name in scores
    ]


__all__ = ["write_model_card"]
