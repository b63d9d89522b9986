"""Errors and accuracy of counts."""

from collections.abc import Sequence

import datasets
import evaluate

from modeling_siasamrea.evaluation.scores import count_scores


class Count(evaluate.Metric):
    """Errors and accuracy of counts. See `modeling_siasamrea.evaluation.scores.count_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
        return evaluate.MetricInfo(
            description=count_scores.__doc__,
            citation="",
            inputs_description="predictions: numbers, not rounded; None is wrong. references: counts. count_range: "
            "the least and largest count of a benchmark that clips them, such as [1, 10].",
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: Sequence[float | None],
        references: Sequence[float],
        question_types: Sequence[str | None] | None = None,
        count_range: Sequence[int] | None = None,
    ) -> dict[str, float]:
        return count_scores(predictions, references, question_types, count_range)
