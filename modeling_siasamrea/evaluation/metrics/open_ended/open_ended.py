"""Accuracy of open-ended answers; answers outside the vocabulary are wrong."""

from collections.abc import Sequence

import datasets
import evaluate

from modeling_siasamrea.evaluation.scores import open_ended_scores


class OpenEnded(evaluate.Metric):
    """Accuracy of open-ended answers. See `modeling_siasamrea.evaluation.scores.open_ended_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        text, texts = datasets.Value("string"), datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=open_ended_scores.__doc__,
            citation="",
            inputs_description=(
                "predictions: answers as text; None is wrong. references: answers as text, or lists of right ones. "
                "vocabulary: all answers."
            ),
            features=[
                datasets.Features({"predictions": text, "references": references}) for references in (text, texts)
            ],
        )

    def compute(
        self,
        *,
        predictions: Sequence[str | None] | None = None,
        references: Sequence[str | Sequence[str]] | None = None,
        **kwargs,
    ) -> dict[str, float] | None:
        """Scores the answers, see `evaluate.EvaluationModule.compute`; a question may have several right ones."""
        if references is not None and not all(isinstance(answer, str) for answer in references):
            references = [[answer] if isinstance(answer, str) else list(answer) for answer in references]
        return super().compute(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        predictions: Sequence[str | None],
        references: Sequence[str | Sequence[str]],
        question_types: Sequence[str | None] | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> dict[str, float]:
        return open_ended_scores(predictions, references, question_types, vocabulary)
