"""TGIF-QA's error of counts, official and raw."""

from collections.abc import Sequence

import datasets
import evaluate

from modeling_siasamrea.evaluation.scores import count_scores


class Count(evaluate.Metric):
    """TGIF-QA's error of counts, official and raw. See `modeling_siasamrea.evaluation.scores.count_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
        return evaluate.MetricInfo(
            description=count_scores.__doc__,
            citation="",
            inputs_description="predictions: numbers, not rounded; None is wrong. references: counts.",
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: Sequence[float | None],
        references: Sequence[float],
        question_types: Sequence[str | None] | None = None,
    ) -> dict[str, float]:
        return count_scores(predictions, references, question_types)
