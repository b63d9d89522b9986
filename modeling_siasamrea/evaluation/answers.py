"""How the Trainer evaluates: the answers it notes batch by batch, and what they make when all processes are done."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import EvalPrediction
from transformers.trainer_utils import denumpify_detensorize

from ..configuration_siasamrea import SiaSamReaConfig
from ..data.questions import VideoQuestion
from ..loss_siasamrea import ground_truth_loss
from ..modeling_siasamrea import NonFiniteError
from .consistency import Answer, score_consistency
from .scores import prediction_row, score_predictions


class EvaluationAnswers:
    """
    The model's answers to the rows of a data set, noted in each process and then put together.

    Args:
        offsets (`int`, *optional*, defaults to 1):
            Anchor starts that each row is answered from; with several, `passes` is one more, to shuffled frames.
    """

    def __init__(self, offsets: int = 1):
        self.offsets = offsets
        self.passes = offsets + 1 if offsets > 1 else 1
        self.answers: dict[int, dict[str, Any]] = {}
        self.unreadable: dict[int, str] = {}
        self.frame_times: dict[int, list[float]] = {}  # of each row, in seconds; to be put into its prediction
        self.truncated = 0

    def note(
        self,
        row: int,
        answers: Sequence[Answer | None],
        scores: Sequence[float | None],
        loss: float,
        finite: bool = True,
        one_start: bool = False,
    ) -> None:
        r"""
        Notes the answers to a row.

        Args:
            row (`int`): Row of the data set.
            answers (`Sequence`): The answer of each pass, as the annotations would write it.
            scores (`Sequence[float | None]`): Their probabilities; `None` for counts.
            loss (`float`): The ground-truth loss of the first pass; NaN where the right answer is not known.
            finite (`bool`, *optional*, defaults to `True`): Whether the scores behind the answers are finite numbers.
            one_start (`bool`, *optional*, defaults to `False`):
                Whether all starts show the same frames, as in a video that is too short for a second one.
        """
        noted = {"answers": answers, "scores": scores, "loss": loss, "finite": finite}
        self.answers[row] = noted | {"one_start": one_start}

    def note_logits(
        self,
        rows: torch.Tensor,
        task: str,
        logits: torch.Tensor,
        labels: torch.Tensor,
        config: SiaSamReaConfig,
        one_start: torch.Tensor,
    ) -> None:
        r"""
        Notes the answers of a batch.

        Args:
            rows (`torch.LongTensor` of shape `(questions,)`): Rows of the data set.
            task (`str`): Their task.
            logits (`torch.Tensor` of shape `(questions, passes, classes)`): The model's scores.
            labels (`torch.Tensor` of shape `(questions,)`): The right answers; -100 where one is not known.
            config ([`SiaSamReaConfig`]): Its `id2label` and `multiple_choice_loss`.
            one_start (`torch.BoolTensor` of shape `(questions,)`): Whether all starts show the same frames.
        """
        if task == "count":
            answers, scores = logits.squeeze(2).tolist(), [[None] * self.passes] * len(logits)
        else:
            scores, answers = (values.tolist() for values in logits.softmax(dim=2).max(dim=2))
        if task == "open_ended":
            answers = [[config.id2label.get(answer) for answer in of_row] for of_row in answers]
        losses = ground_truth_loss(logits[:, 0], labels, task, config.multiple_choice_loss)
        losses = losses.masked_fill(labels == -100, float("nan"))
        finite = torch.isfinite(logits).flatten(1).all(dim=1)
        for noted in zip(rows.tolist(), answers, scores, losses.tolist(), finite.tolist(), one_start.tolist()):
            self.note(*noted)

    def gather(self) -> None:
        """Takes over what the other processes noted."""
        noted = (self.answers, self.unreadable, self.frame_times, self.truncated)
        truncated = 0
        for answers, unreadable, frame_times, of_process in gather_object([noted]):
            self.answers |= answers
            self.unreadable |= unreadable
            self.frame_times |= frame_times
            truncated += of_process
        self.truncated = truncated

    def predictions(self, questions: Sequence[VideoQuestion]) -> list[dict]:
        r"""
        A line of a predictions file for each row, in their order, see [`prediction_row`]; with several anchor starts
        it has `answers`, one from each, and `shuffled_answer`.

        Raises:
            [`NonFiniteError`]: If the model's scores of a row are not finite numbers.
        """
        bad = [questions[row] for row, noted in sorted(self.answers.items()) if not noted["finite"]]
        if bad:
            raise NonFiniteError(
                f"The model's scores of {len(bad)} of {len(questions)} questions are not finite numbers, so its "
                f"answers would be false. The first: {bad[0].question!r} about {bad[0].video} (task {bad[0].task!r}). "
                "Its weights have grown out of bounds: take an earlier checkpoint, or lower the learning rate."
            )
        lines = []
        for row, (question, (answers, scores)) in enumerate(zip(questions, self._given(questions))):
            lines.append(prediction_row(question, answers[0], scores[0], self.unreadable.get(row)))
            if self.offsets > 1:
                lines[-1] |= {"answers": answers[: self.offsets], "shuffled_answer": answers[self.offsets]}
            if row in self.frame_times:
                lines[-1]["frame_times"] = self.frame_times[row]
        return lines

    def metrics(self, questions: Sequence[VideoQuestion], vocabulary: Iterable[str] | None) -> dict[str, float]:
        """
        The scores of [`score_predictions`] and [`score_consistency`], the mean loss of known rows, and counts of rows
        and cut texts.
        """
        answers, scores = zip(*self._given(questions))
        losses = [noted["loss"] for noted in self.answers.values() if not math.isnan(noted["loss"])]
        metrics = score_predictions(questions, [given[0] for given in answers], vocabulary)
        metrics |= score_consistency(
            questions,
            [given[: self.offsets] for given in answers],
            [given[: self.offsets] for given in scores],
            [given[self.offsets] for given in answers] if self.offsets > 1 else None,
            [self.answers.get(row, {}).get("one_start", False) for row in range(len(questions))]
            if self.offsets > 1
            else None,
        )
        metrics |= {"loss": sum(losses) / len(losses)} if losses else {}
        metrics |= {"questions": len(questions), "unreadable": len(self.unreadable)}
        return metrics | {"truncated_texts": self.truncated}

    def _given(
        self, questions: Sequence[VideoQuestion]
    ) -> list[tuple[Sequence[Answer | None], Sequence[float | None]]]:
        """Each row's answers and their scores; `None` if unreadable."""
        none = {"answers": [None] * self.passes, "scores": [None] * self.passes}
        noted = [self.answers.get(row, none) for row in range(len(questions))]
        return [(of_row["answers"], of_row["scores"]) for of_row in noted]


def metrics_of_user(
    compute_metrics: Callable[[EvalPrediction], dict[str, float]], predictions: list[dict], answers: list
) -> dict[str, float]:
    r"""
    What the Trainer's `compute_metrics` makes of an evaluation.

    Args:
        compute_metrics (`Callable`): Takes an [`~transformers.EvalPrediction`].
        predictions (`list[dict]`): The lines of [`prediction_row`], one a row; they become its `predictions`.
        answers (`list`): The right answers, `None` where a row has none; they become its `label_ids`.

    Returns:
        `dict[str, float]`: The scores by name.

    Raises:
        `ValueError`: If it does not return a dictionary.
    """
    metrics = compute_metrics(EvalPrediction(predictions=predictions, label_ids=answers))
    if not isinstance(metrics, dict):
        raise ValueError(f"compute_metrics must return a dictionary of numbers by name; got {metrics!r}.")
    return denumpify_detensorize(metrics)


__all__ = ["EvaluationAnswers", "metrics_of_user"]
