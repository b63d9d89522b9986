"""The model card that a finished training run writes, from the template in `model_cards/`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..configuration_siasamrea import SiaSamReaConfig
from ..training.arguments import SiaSamReaTrainingArguments
from ..video_language.settings import VideoLanguageSettings
from .packaged_files import MODEL_CARDS


# Scores of `score_predictions` that the card's metadata states, with the names the hub shows.
METRICS = {
    "open_ended_accuracy": ("accuracy", "Accuracy, open-ended, unknown answers wrong"),
    "multiple_choice_accuracy": ("accuracy", "Accuracy, multiple choice"),
    "count_mse": ("mse", "MSE of counts, rounded and clipped to 1..10"),
    "count_accuracy": ("accuracy", "Accuracy of rounded counts"),
}


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


def _table(rows: dict[str, object]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _cell(column: dict[str, float], name: str) -> str:
    """A score, with its standard error where there is one."""
    if name not in column:
        return "–"
    error = column.get(f"{name}_standard_error")
    return f"{column[name]:.4g}" + ("" if error is None else f" ± {error:.2g}")


# Settings that a card states.
METHOD = ("num_clips", "alpha", "omega", "affinity", "affinity_temperature", "reasoning_weights", "detach")
METHOD += ("supervised_clips", "multiple_choice_loss", "freeze_batch_norm", "frozen_image_encoder_modules")
TRAINING = ("learning_rate", "image_encoder_learning_rate", "warmup_steps", "num_train_epochs", "max_steps")
TRAINING += ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size", "questions_per_video")
TRAINING += ("adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "seed")


def _siasamrea_fields(config: SiaSamReaConfig) -> dict[str, Any]:
    """What the template of SiaSamRea's own network needs besides."""
    return {
        "template_path": str(MODEL_CARDS / "template.md"),
        "vocabulary_size": config.num_labels if "open_ended" in config.tasks else 0,
        "method": {name: getattr(config, name) for name in METHOD},
    }


def _video_language_fields(settings: VideoLanguageSettings, is_adapter: bool) -> dict[str, Any]:
    """What the template of video-language models needs besides."""
    method = asdict(settings)
    prompts = method.pop("prompts")
    return {
        "template_path": str(MODEL_CARDS / "video_language_template.md"),
        "kind": "LoRA adapter" if is_adapter else "model",
        "prompts": _table({name: repr(prompt) for name, prompt in prompts.items()}),
        "method": method,
    }


def write_model_card(
    path: str | Path,
    config: SiaSamReaConfig | VideoLanguageSettings,
    arguments: SiaSamReaTrainingArguments,
    dataset: str,
    split: str,
    scores: dict[str, float],
    baselines: dict[str, dict[str, float]],
    base_model: str | None,
) -> None:
    r"""
    Fills the template and writes the card, with `model-index` metadata as the hub reads it.

    Args:
        path (`str` or `Path`): Where the card goes.
        config ([`SiaSamReaConfig`] or [`VideoLanguageSettings`]): The trained model's configuration or settings.
        arguments ([`SiaSamReaTrainingArguments`]): The run's arguments.
        dataset (`str`): Name of the data.
        split (`str`): The split that was evaluated.
        scores (`dict[str, float]`):
            The scores of [`score_predictions`] and [`score_consistency`] on it; empty if nothing was evaluated.
        baselines (`dict[str, dict[str, float]]`): Scores of answers that look at no video, by their name.
        base_model (`str`, *optional*): What training started from.
    """
    path = Path(path)
    of_video_language = isinstance(config, VideoLanguageSettings)
    is_adapter = (path.parent / "adapter_config.json").is_file()
    fields = _video_language_fields(config, is_adapter) if of_video_language else _siasamrea_fields(config)
    card_data = ModelCardData(
        license=None if of_video_language else "apache-2.0",  # that of the model it started from
        library_name="peft" if of_video_language and is_adapter else "transformers",
        pipeline_tag="visual-question-answering",
        tags=["siasamrea", "video-question-answering"],
        model_name=path.resolve().parent.name,
        eval_results=_eval_results(scores, dataset, split) or None,
    )
    of_run = {name: getattr(arguments, name) for name in TRAINING}
    if of_video_language:
        del of_run["image_encoder_learning_rate"]
    columns = {"this model": scores, **baselines}
    lines = ["| score | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in scores:
        if not name.endswith("_standard_error"):
            lines.append(f"| {name} | " + " | ".join(_cell(column, name) for column in columns.values()) + " |")
    card = ModelCard.from_template(
        card_data,
        model_name=card_data.model_name,
        base_model=base_model or "random weights",
        dataset=dataset,
        split=split,
        tasks=", ".join(config.tasks),
        hyperparameters=_table(fields.pop("method") | of_run),
        scores="\n".join(lines) if scores else "Not evaluated.",
        **fields,
    )
    card.save(path)


__all__ = ["write_model_card"]
