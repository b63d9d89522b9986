"""The model card that a finished training run writes, from the template in `model_cards/`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..adapter_siasamrea import adapter_source
from ..configuration_siasamrea import TASKS, SiaSamReaConfig
from ..data.questions import VideoQuestion
from ..training.arguments import VideoQuestionTrainingArguments
from ..video_language.settings import VideoLanguageSettings
from .arguments import DataArguments
from .packaged_files import MODEL_CARDS
from .printing import one_line, score_rows, score_table


# Settings of the model and of the training that a card states, where the run has them.
SETTINGS = ("num_clips", "alpha", "omega", "affinity", "reasoning_weights", "detach", "supervised_clips")
SETTINGS += ("multiple_choice_loss", "freeze_batch_norm", "frozen_image_encoder_modules")
SETTINGS += ("learning_rate", "image_encoder_learning_rate", "warmup_steps", "num_train_epochs", "max_steps")
SETTINGS += ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size", "questions_per_video")
SETTINGS += ("adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "seed")


def write_model_card(
    path: str | Path,
    config: SiaSamReaConfig | VideoLanguageSettings,
    arguments: VideoQuestionTrainingArguments,
    data: DataArguments,
    rows: Mapping[str, Sequence[VideoQuestion]],
    unreadable: Mapping[str, float],
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
        unreadable (`Mapping[str, float]`): How many questions of each split have a video that cannot be read.
        scores (`dict[str, float]`): Scores of the last split; empty if nothing was evaluated.
        baselines (`dict[str, dict[str, float]]`): Scores of answers that see no video, by their name.
        started_from (`Sequence[str]`): The models that training started from; none for random weights.
    """
    path, split = Path(path), list(rows)[-1]
    name = one_line(path.resolve().parent.name)
    is_adapter = adapter_source(path.parent) is not None
    kind = {"task_type": "visual-question-answering", "dataset_type": "video-question-answering"}
    kind |= {"dataset_name": one_line(source_of(data, split)), "dataset_split": split}
    results = []
    for key, title in score_rows(scores).items():
        if key != "flip_rate":
            metric, value = "mse" if key == "count_mse" else "accuracy", round(scores[key], 6)
            results.append(EvalResult(metric_type=metric, metric_name=title, metric_value=value, **kind))
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag="visual-question-answering",
        tags=["siasamrea", "video-question-answering"],
        model_name=name,
        base_model=[name for name in started_from if not Path(name).exists()] or None,  # names of a hub
        eval_results=results or None,
    )
    if isinstance(config, VideoLanguageSettings):
        card_data.library_name = "peft" if is_adapter else "transformers"
        template, tasks = "video_language_template.md", TASKS
        fields = {
            "kind": "LoRA adapter" if is_adapter else "model",
            "prompts": _table({name: repr(text) for name, text in config.prompts.items()}),
        }
    else:
        alone = "on all clips" if config.supervised_clips == "all" else "on the anchor clip alone"
        template, tasks = "template.md", config.tasks
        fields = {
            "method": "with siamese sampling and reasoning" if config.alpha else alone,
            "vocabulary_size": config.num_labels * ("open_ended" in config.tasks),
        }
    owners = [(owner, key) for owner in (config, arguments) for key in SETTINGS if hasattr(owner, key)]
    card = ModelCard.from_template(
        card_data,
        template_path=str(MODEL_CARDS / template),
        model_name=name,
        base_model=", ".join(map(one_line, started_from)) or "random weights",
        tasks=", ".join(tasks),
        split=split,
        rows="\n".join(
            f"| {title} | {_cell(source_of(data, title))} | {len(of_title)} | {len({row.video for row in of_title})} "
            f"| {unreadable.get(title, 0):.0f} |"
            for title, of_title in rows.items()
        ),
        example=example([row for of_title in rows.values() for row in of_title], tasks, name),
        hyperparameters=_table({key: getattr(owner, key) for owner, key in owners}),
        scores=score_table("score", scores, baselines) if scores else "Not evaluated.",
        **fields,
    )
    card.save(path)


def source_of(data: DataArguments, split: str) -> str:
    """Returns the data of a split as it was given."""
    file = getattr(data, f"{split}_file", None)
    return ", ".join(data.benchmarks or []) or data.dataset_name or file or "unknown"


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


def _table(values: Mapping[str, object]) -> str:
    return "\n".join(f"| {key} | {_cell(value)} |" for key, value in values.items())
