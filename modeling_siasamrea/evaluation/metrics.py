"""The scores of video question answering as modules of `evaluate`, which load without a network."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from .consistency import consistency_scores
from .scores import count_scores, multiple_choice_scores, open_ended_scores


TEXT, TEXTS = datasets.Value("string"), datasets.Sequence(datasets.Value("string"))
# Of each metric the function, the type of a prediction, and those that a reference may have.
METRICS = {
    "open_ended": (open_ended_scores, TEXT, (TEXT, TEXTS)),
    "multiple_choice": (multiple_choice_scores, datasets.Value("int32"), (datasets.Value("int32"),)),
    "count": (count_scores, datasets.Value("float64"), (datasets.Value("float64"),)),
    "consistency": (consistency_scores, TEXTS, (TEXT,)),
}


class VideoQuestionMetric(evaluate.Metric):
    """A metric of `evaluate` over one of the functions of this package; its configuration names which."""

    def _info(self) -> evaluate.MetricInfo:
        scores, prediction, references = METRICS[self.config_name]
        return evaluate.MetricInfo(
            description=scores.__doc__,
            citation="",
            inputs_description="references are the right answers; a prediction of None is wrong.",
            features=[datasets.Features({"predictions": prediction, "references": one}) for one in references],
        )

    def compute(
        self, *, predictions: Sequence | None = None, references: Sequence | None = None, **kwargs: Any
    ) -> dict[str, float] | None:
        """Scores the answers, see `evaluate.EvaluationModule.compute`; a question may have several right texts."""
        if references is not None and {str, list} <= {type(reference) for reference in references}:
            references = [[answer] if isinstance(answer, str) else answer for answer in references]
        return super().compute(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions: Sequence, references: Sequence, **kwargs: Any) -> dict[str, float]:
        return METRICS[self.config_name][0](predictions, references, **kwargs)


def load_metric(name: str) -> VideoQuestionMetric:
    r"""
    Loads a metric of this package.

    Args:
        name (`str`): `"open_ended"`, `"multiple_choice"`, `"count"` or `"consistency"`.

    Returns:
        `evaluate.Metric`: `compute(predictions=..., references=..., question_types=...)` gives the scores of
        `open_ended_scores`, `multiple_choice_scores` or `count_scores`; of `"consistency"`,
        `compute(predictions=..., references=..., videos=...)` gives those of
        [`~modeling_siasamrea.evaluation.consistency.consistency_scores`].

    Raises:
        `ValueError`: If there is no such metric.

    Example:

    ```python
    >>> load_metric("count").compute(predictions=[2.6, 11.0], references=[3, 10], count_range=[1, 10])["mse"]
    0.0
    ```"""
    if name not in METRICS:
        raise ValueError(f"There is no metric {name!r}; choose from {', '.join(METRICS)}.")
    return VideoQuestionMetric(name)
