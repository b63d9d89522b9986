"""The scores of video question answering as `evaluate` modules, loaded from this package without a network."""

from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from evaluate import EvaluationModule

METRICS = ("open_ended", "multiple_choice", "count", "consistency")


def load_metric(name: str) -> "EvaluationModule":
    r"""
    Loads a metric of this package.

    Args:
        name (`str`): `"open_ended"`, `"multiple_choice"`, `"count"` or `"consistency"`.

    Returns:
        `evaluate.EvaluationModule`: `compute(predictions=..., references=..., question_types=...)` gives the scores of
        the function of the same name in `modeling_siasamrea.evaluation.scores`; of `"consistency"`,
        `compute(predictions=..., references=..., videos=...)` those of
        [`~modeling_siasamrea.evaluation.consistency.consistency_scores`].

    Raises:
        `ValueError`: If there is no such metric.

    Example:

    ```python
    >>> load_metric("count").compute(predictions=[2.6, 11.0], references=[3, 10], count_range=[1, 10])["mse"]
    0.0
    ```"""
    import evaluate  # here, because it is slow to import

    if name not in METRICS:
        raise ValueError(f"There is no metric {name!r}; choose from {', '.join(METRICS)}.")
    return evaluate.load(str(Path(__file__).parent / name))


__all__ = ["METRICS", "load_metric"]
