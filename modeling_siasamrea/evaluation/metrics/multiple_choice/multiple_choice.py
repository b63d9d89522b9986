"""Accuracy of multiple-choice answers."""

from collections.abc import Sequence

import datasets
import evaluate

from modeling_siasamrea.evaluation.scores import multiple_choice_scores


class MultipleChoice(evaluate.Metric):
    """Accuracy of multiple-choice answers. See `modeling_siasamrea.evaluation.scores.multiple_choice_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        return evaluate.MetricInfo(
            description=multiple_choice_scores.__doc__,
            citation="",
            inputs_description="predictions and references: index of a candidate; None is wrong.",
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: Sequence[int | None],
        references: Sequence[int],
        question_types: Sequence[str | None] | None = None,
    ) -> dict[str, float]:
        return multiple_choice_scores(predictions, references, question_types)
