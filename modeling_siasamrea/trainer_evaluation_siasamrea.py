"""How the Trainer evaluates: the answers it notes batch by batch, and what they make when all processes are done."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import EvalPrediction
from transformers.trainer_utils import denumpify_detensorize

from .annotations_siasamrea import VideoQuestion
from .evaluation_siasamrea import prediction_row, score_predictions
from .loss_siasamrea import ground_truth_loss
from .modeling_siasamrea import NonFiniteError


class EvaluationAnswers:
    """The model's answers to the rows of a data set, noted in each process and then put together."""

    def __init__(self):
        self.answers: dict[int, dict[str, Any]] = {}
        self.unreadable: dict[int, str] = {}
        self.truncated = 0

    def note(
        self, rows: torch.Tensor, task: str, logits: torch.Tensor, labels: torch.Tensor | None, choice_loss: str
    ) -> None:
        r"""
        Notes the answers of a batch.

        Args:
            rows (`torch.LongTensor` of shape `(questions,)`): Rows of the data set.
            task (`str`): Their task.
            logits (`torch.Tensor` of shape `(questions, classes)`): The model's scores.
            labels (`torch.Tensor` of shape `(questions,)`, *optional*): The right answers.
            choice_loss (`str`): The configuration's `multiple_choice_loss`.
        """
        if task == "count":
            answers, scores = logits.squeeze(1), torch.full_like(logits.squeeze(1), float("nan"))
        else:
            scores, answers = logits.softmax(dim=1).max(dim=1)
        losses = torch.full_like(logits[:, 0], float("nan"))
        if labels is not None:
            losses = ground_truth_loss(logits, labels, task, choice_loss)
            if task == "open_ended":
                losses = losses.masked_fill(labels == -100, float("nan"))
        finite = torch.isfinite(logits).all(dim=1)
        columns = (answers.tolist(), scores.tolist(), losses.tolist(), finite.tolist())
        for row, *values in zip(rows.tolist(), *columns):
            self.answers[row] = dict(zip(("answer", "score", "loss", "finite"), values))

    def gather(self) -> None:
        """Takes over what the other processes noted."""
        truncated = 0
        for answers, unreadable, of_process in gather_object([(self.answers, self.unreadable, self.truncated)]):
            self.answers |= answers
            self.unreadable |= unreadable
            truncated += of_process
        self.truncated = truncated

    def predictions(self, questions: Sequence[VideoQuestion], id2label: dict[int, str]) -> list[dict]:
        r"""
        A line of a predictions file for each row, in their order, see [`prediction_row`].

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
        return [
            prediction_row(
                question,
                self._answer(question, self.answers.get(row), id2label),
                self.answers.get(row, {}).get("score"),
                self.unreadable.get(row),
            )
            for row, question in enumerate(questions)
        ]

    def metrics(self, questions: Sequence[VideoQuestion], id2label: dict[int, str]) -> dict[str, float]:
        """The scores of [`score_predictions`], the mean loss of known rows, and counts of rows and cut texts."""
        given = [self._answer(question, self.answers.get(row), id2label) for row, question in enumerate(questions)]
        losses = [noted["loss"] for noted in self.answers.values() if not math.isnan(noted["loss"])]
        metrics = score_predictions(questions, given, id2label.values())
        metrics |= {"loss": sum(losses) / len(losses)} if losses else {}
        metrics |= {"questions": len(questions), "unreadable": len(self.unreadable)}
        return metrics | {"truncated_texts": self.truncated}

    @staticmethod
    def _answer(
        question: VideoQuestion, noted: dict[str, Any] | None, id2label: dict[int, str]
    ) -> str | int | float | None:
        """The answer as the annotations would write it; `None` for an unreadable video."""
        if noted is None:
            return None
        return id2label[noted["answer"]] if question.task == "open_ended" else noted["answer"]


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
