"""Lines that the commands print: safe for a terminal, with the progress of a run and its scores."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def one_line(text: object) -> str:
    """Puts a text on one line, with control characters and lone surrogates as escapes."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class ProgressLines(TrainerCallback):
    """Prints one line per log step: loss, accuracy, learning rate and time left. All else is in the Trainer's log."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock."""
        self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Prints the line of a training step, or that of an evaluation on the way."""
        if not state.is_world_process_zero or not logs:
            return
        step = f"step {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}"
        accuracies = [value for name, value in logs.items() if name.startswith("anchor_accuracy/")]
        if "loss" in logs:
            parts = [step, f"loss {float(logs['loss']):.4g}"]
            if accuracies:
                parts.append(f"accuracy {sum(accuracies) / len(accuracies):.3f}")
            parts += [f"rate {float(logs['learning_rate']):.2g}", self._time_left(state)]
        elif "eval_accuracy" in logs:
            parts = [step, f"validation accuracy {logs['eval_accuracy']:.3f}"]
        else:
            return
        print("   ".join(parts), flush=True)

    def _time_left(self, state: TrainerState) -> str:
        seconds = (time.monotonic() - self.began) / max(1, state.global_step - self.first_step)
        seconds *= state.max_steps - state.global_step
        return f"{seconds / 3600:.1f} h left" if seconds >= 5400 else f"{seconds / 60:.1f} min left"


def score_rows(scores: dict[str, float]) -> dict[str, str]:
    """
    Chooses the scores that a run's table has, the one that matters first.

    Args:
        scores (`dict[str, float]`): All scores of a split, see [`score_predictions`].

    Returns:
        `dict[str, str]`: The name of each score and its title: accuracy, then each kind of question on its own.
    """
    rows = {}
    for task in ("open_ended", "multiple_choice", "count"):
        measure, title = ("count_mse", "mean squared error") if task == "count" else (f"{task}_accuracy", "accuracy")
        kinds = [name for name in scores if name.startswith(f"{task}_accuracy/")]
        if measure in scores and (task == "count" or not kinds):
            rows[measure] = f"  {task.replace('_', '-')}, {title}"
        if task != "count":
            rows |= {name: f"  {name.split('/', 1)[1]}, accuracy" for name in kinds}
    rows |= {"flip_rate": "answers that change with the start"} if "flip_rate" in scores else {}
    return {"accuracy": "accuracy (mean over tasks)"} | rows if "accuracy" in scores else rows


def score_table(title: str, scores: dict[str, float], baselines: dict[str, dict[str, float]]) -> str:
    """Makes the table of a split: the model's scores beside those of answers that see no video."""
    columns = {"this model": scores, **baselines}
    rows = {name: one_line(row) if row[0] != " " else f"  {one_line(row)}" for name, row in score_rows(scores).items()}
    width = max(map(len, (title, *rows.values())))
    lines = [f"{title:{width}s}" + "".join(f"{name:>16s}" for name in columns)]
    for name, row in rows.items():
        cells = (f"{column[name]:16.3f}" if name in column else f"{'':16s}" for column in columns.values())
        lines.append(f"{row:{width}s}" + "".join(cells))
    return "\n".join(lines)


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


__all__ = ["ProgressLines", "one_line", "score_rows", "score_table", "verdict"]
