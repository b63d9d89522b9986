"""The model card that a finished training run writes, from the template in `model_cards/`."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .configuration_siasamrea import SiaSamReaConfig
from .packaged_files import MODEL_CARDS
from .trainer_siasamrea import SiaSamReaTrainingArguments


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


def write_model_card(
    path: str | Path,
    config: SiaSamReaConfig,
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
        config ([`SiaSamReaConfig`]): The trained model's configuration.
        arguments ([`SiaSamReaTrainingArguments`]): The run's arguments.
        dataset (`str`): Name of the data.
        split (`str`): The split that was evaluated.
        scores (`dict[str, float]`):
            The scores of [`score_predictions`] and [`score_consistency`] on it; empty if nothing was evaluated.
        baselines (`dict[str, dict[str, float]]`): Scores of answers that look at no video, by their name.
        base_model (`str`, *optional*): What training started from.
    """
    path = Path(path)
    card_data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="visual-question-answering",
        tags=["siasamrea", "video-question-answering"],
        model_name=path.resolve().parent.name,
        eval_results=_eval_results(scores, dataset, split) or None,
    )
    method = ("num_clips", "alpha", "omega", "affinity", "affinity_temperature", "reasoning_weights", "detach")
    method += ("supervised_clips", "multiple_choice_loss", "freeze_batch_norm", "frozen_image_encoder_modules")
    hyperparameters = {name: getattr(config, name) for name in method}
    for name in ("learning_rate", "image_encoder_learning_rate", "warmup_steps", "num_train_epochs", "max_steps"):
        hyperparameters[name] = getattr(arguments, name)
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size", "questions_per_video"):
        hyperparameters[name] = getattr(arguments, name)
    for name in ("adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "seed"):
        hyperparameters[name] = getattr(arguments, name)
    columns = {"this model": scores, **baselines}
    lines = ["| score | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in scores:
        if not name.endswith("_standard_error"):
            lines.append(f"| {name} | " + " | ".join(_cell(column, name) for column in columns.values()) + " |")
    card = ModelCard.from_template(
        card_data,
        template_path=str(MODEL_CARDS / "template.md"),
        model_name=card_data.model_name,
        base_model=base_model or "random weights",
        dataset=dataset,
        split=split,
        tasks=", ".join(config.tasks),
        vocabulary_size=config.num_labels if "open_ended" in config.tasks else 0,
        hyperparameters=_table(hyperparameters),
        scores="\n".join(lines) if scores else "Not evaluated.",
    )
    card.save(path)


__all__ = ["write_model_card"]
