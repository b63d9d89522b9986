"""Accuracy of open-ended answers; answers outside the vocabulary are wrong."""

from collections.abc import Sequence

import datasets
import evaluate

from modeling_siasamrea.evaluation_siasamrea import open_ended_scores


class OpenEnded(evaluate.Metric):
    """Accuracy of open-ended answers. See `modeling_siasamrea.evaluation_siasamrea.open_ended_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=open_ended_scores.__doc__,
            citation="",
            inputs_description="predictions and references: answers as text; None is wrong. vocabulary: all answers.",
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: Sequence[str | None],
        references: Sequence[str],
        question_types: Sequence[str | None] | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> dict[str, float]:
        return open_ended_scores(predictions, references, question_types, vocabulary)
