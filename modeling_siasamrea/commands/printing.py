"""Lines that the commands print: safe for a terminal, with the progress of a run and its scores."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerState

from ..configuration_siasamrea import TASKS


def one_line(text: object) -> str:
    """Puts a text on one line, with control characters and lone surrogates as escapes."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class ProgressLines(TrainerCallback):
    """Prints one line per log step: loss, accuracy, learning rate and time left. All else is in the Trainer's log."""

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        """Starts the clock."""
        self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        """Prints the line of a training step, or that of an evaluation on the way."""
        logs, parts = given.get("logs") or {}, []
        if "loss" in logs:
            seconds = (time.monotonic() - self.began) / max(1, state.global_step - self.first_step)
            minutes = seconds * (state.max_steps - state.global_step) / 60
            accuracies = [value for name, value in logs.items() if name.startswith("anchor_accuracy/")]
            parts = [f"loss {float(logs['loss']):.4g}", f"rate {float(logs['learning_rate']):.2g}"]
            parts[1:1] = [f"accuracy {sum(accuracies) / len(accuracies):.3f}"] if accuracies else []
            parts.append(f"{minutes / 60:.1f} h left" if minutes >= 90 else f"{minutes:.1f} min left")
        elif "eval_accuracy" in logs:
            parts = [f"validation accuracy {logs['eval_accuracy']:.3f}"]
        if parts and state.is_world_process_zero:
            step = f"step {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}"
            print("   ".join([step, *parts]), flush=True)


def score_rows(scores: dict[str, float]) -> dict[str, str]:
    """
    Chooses the scores that a run's table has, the one that matters first.

    Args:
        scores (`dict[str, float]`): All scores of a split, see [`score_predictions`].

    Returns:
        `dict[str, str]`: The name of each score and its title: of all, of each task, and of its kinds of question.
    """
    rows = {"accuracy": "accuracy (mean over tasks)"}
    for task in TASKS:
        title = task.replace("_", "-")
        rows[f"{task}_accuracy"] = f"{title}, accuracy"
        kinds = [name for name in scores if name.startswith(f"{task}_accuracy/")]
        rows |= {name: f"{title}, {name.split('/', 1)[1]}" for name in kinds if len(kinds) > 1}
    rows["count_mse"] = "count, mean squared error"
    rows["flip_rate"] = "answers that change with the start"
    return {name: title for name, title in rows.items() if name in scores}


def score_table(title: str, scores: dict[str, float], baselines: dict[str, dict[str, float]]) -> str:
    """
    Makes the Markdown table of a split: the model's scores beside those of answers that see no video, with the
    standard errors that are known.
    """
    columns = {"this model": scores, **baselines}
    lines = [[title, *columns]]
    for name, row in score_rows(scores).items():
        errors = (column.get(f"{name}_standard_error") for column in columns.values())
        cells = (
            "–" if name not in column else f"{column[name]:.3f}" + ("" if error is None else f" ± {error:.2g}")
            for column, error in zip(columns.values(), errors)
        )
        lines.append([one_line(row).replace("|", "\\|"), *cells])
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths))} |" for line in lines)


def verdict(scores: dict[str, float], baselines: dict[str, dict[str, float]]) -> str | None:
    """Says if a model is no better than answers from the questions alone, and what to try."""
    blind = max((of_one["accuracy"] for of_one in baselines.values() if "accuracy" in of_one), default=None)
    if blind is None or scores.get("accuracy", 1.0) > blind:
        return None
    return (
        f"The model has learned nothing from the videos: its accuracy is {scores['accuracy']:.3f}, and {blind:.3f} "
        "without seeing them. Try more steps (--max_steps), another --learning_rate (5e-5 suits pretrained encoders), "
        "pretrained encoders if it started from random weights, and the anchor clip alone (alpha 0)."
    )
