"""Consistency of answers over anchor starts, calibration, and standard errors clustered by video."""

from collections.abc import Sequence

import datasets
import evaluate

from modeling_siasamrea.evaluation.consistency import consistency_scores


class Consistency(evaluate.Metric):
    """Consistency of answers. See `modeling_siasamrea.evaluation.consistency.consistency_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.Sequence(datasets.Value("string")),
            "references": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=consistency_scores.__doc__,
            citation="",
            inputs_description="predictions: for each question its answers from K starts; None is wrong. references: "
            "answers. videos: the video of each question. scores, shuffled: optional, as predictions.",
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[str | None]],
        references: Sequence[str],
        videos: Sequence[str],
        scores: Sequence[Sequence[float | None]] | None = None,
        shuffled: Sequence[str | None] | None = None,
    ) -> dict[str, float]:
        return consistency_scores(predictions, references, videos, scores, shuffled)
