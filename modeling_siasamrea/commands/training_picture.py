"""The picture of a training run: its curves, and which answers are taken for which others."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.confusion import confusion_table
from .printing import one_line


logger = logging.getLogger(__name__)


def save_training_picture(path: Path, log: Sequence[Mapping[str, float]], lines: Sequence[Mapping[str, Any]]) -> None:
    r"""
    Draws loss, accuracy and a confusion table of the most frequent answers.

    Args:
        path (`Path`): The PNG to write. Without matplotlib nothing is written, and the log says so.
        log (`Sequence[Mapping]`): The Trainer's log history.
        lines (`Sequence[Mapping]`): Lines of a predictions file; those of its most frequent task are drawn.
    """
    if importlib.util.find_spec("matplotlib") is None:
        logger.info(f'{path.name} is not drawn: that needs matplotlib, pip install "siasamrea[demo]".')
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, accuracy, table = figure.subplots(1, 3)
    for axes, title, curves in (
        (loss, "loss", {"training, all terms": "loss", "validation": "eval_loss"}),
        (accuracy, "accuracy", {"training": "anchor_accuracy/", "validation": "eval_accuracy"}),
    ):
        for label, name in curves.items():
            points = [(entry["step"], _mean_of(entry, name)) for entry in log]
            points = [point for point in points if point[1] is not None]
            if points:
                axes.plot(*zip(*points), label=label, marker="." if len(points) < 30 else "")
        axes.set(title=title, xlabel="step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.has_data():
            axes.legend()
    tasks = [line["task"] for line in lines]
    commonest = max(tasks, key=tasks.count, default=None)
    names, counts = confusion_table([line for line in lines if line["task"] == commonest])
    labels = [one_line(name)[:16].replace("$", r"\$") for name in names]
    if names:
        table.imshow(counts, cmap="Blues")
        table.set_xticks(range(len(names)), labels, rotation=90)
        table.set_yticks(range(len(names)), labels)
        for row, of_row in enumerate(counts):
            for column, count in enumerate(of_row):
                if count:
                    shade = "white" if count > max(map(max, counts)) / 2 else "black"
                    table.text(column, row, count, ha="center", va="center", color=shade, fontsize=8)
    table.set(title=f"{str(commonest).replace('_', '-')}: right (rows) and given answers")
    figure.savefig(path, dpi=110)


def _mean_of(entry: Mapping[str, float], name: str) -> float | None:
    """Returns the value of a name in a log entry, or the mean over tasks of a name that ends in a slash."""
    values = [value for key, value in entry.items() if key == name or (name[-1] == "/" and key.startswith(name))]
    return sum(values) / len(values) if values else None
