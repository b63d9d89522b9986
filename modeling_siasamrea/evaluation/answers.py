"""How the Trainer evaluates: the answers it notes batch by batch, and what they make when all processes are done."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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


class Noted(NamedTuple):
    """
    What a model answers to a row.

    Args:
        answer (`str`, `int` or `float`, *optional*): The answer, as the annotations would write it.
        score (`float`, *optional*): Its probability; `None` for counts.
        loss (`float`): The ground-truth loss; NaN where the right answer is not known.
        finite (`bool`): Whether the scores behind the answer are finite numbers.
        frames (`str`): A digest of the frames that the model saw, see [`digest_frames`].
    """

    answer: Answer | None
    score: float | None
    loss: float
    finite: bool
    frames: str


class EvaluationAnswers:
    """The model's answers to the rows of a data set in one pass, noted in each process and then put together."""

    def __init__(self):
        self.answers: dict[int, Noted] = {}
        self.unreadable: dict[int, str] = {}
        self.frame_times: dict[int, list[float]] = {}  # of each row, in seconds; to be put into its prediction
        self.truncated = 0

    def note_logits(
        self,
        rows: torch.Tensor,
        task: str,
        logits: torch.Tensor,
        labels: torch.Tensor,
        config: SiaSamReaConfig,
        frames: Sequence[str],
    ) -> None:
        r"""
        Notes the answers of a batch.

        Args:
            rows (`torch.LongTensor` of shape `(questions,)`): Rows of the data set.
            task (`str`): Their task.
            logits (`torch.Tensor` of shape `(questions, classes)`): The model's scores.
            labels (`torch.Tensor` of shape `(questions,)`): The right answers; -100 where one is not known.
            config ([`SiaSamReaConfig`]): Its `id2label` and `multiple_choice_loss`.
            frames (`Sequence[str]`): A digest of each question's frames.
        """
        if task == "count":
            answers, scores = logits.squeeze(1).tolist(), [None] * len(logits)
        else:
            scores, answers = (values.tolist() for values in logits.softmax(dim=1).max(dim=1))
        if task == "open_ended":
            answers = [config.id2label.get(answer) for answer in answers]
        losses = ground_truth_loss(logits, labels, task, config.multiple_choice_loss)
        losses = losses.masked_fill(labels == -100, float("nan"))
        finite = torch.isfinite(logits).all(dim=1)
        for row, *noted in zip(rows.tolist(), answers, scores, losses.tolist(), finite.tolist(), frames):
            self.answers[row] = Noted(*noted)

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


def sampling_of_passes(offsets: int) -> list[dict[str, Any]]:
    """
    How the passes of an evaluation sample clips: from each of K anchor starts, the centred one first, and with several
    once more from the centred one with its frames shuffled.
    """
    if offsets == 1:
        return [{}]
    return [{"eval_offset": (k, offsets)} for k in range(offsets)] + [{"shuffle_frames": True}]


def digest_frames(frames: torch.Tensor) -> str:
    """A digest of frames, which tells whether two passes saw the same."""
    return hashlib.blake2b(frames.cpu().contiguous().flatten().view(torch.uint8).numpy(), digest_size=8).hexdigest()


def _given(
    passes: Sequence[EvaluationAnswers], questions: Sequence[VideoQuestion]
) -> list[tuple[list[Answer | None], list[float | None]]]:
    """The answers of all passes to each row, and their scores; `None` where its video could not be read."""
    noted = [[of_pass.answers.get(row) for of_pass in passes] for row in range(len(questions))]
    return [([one and one.answer for one in of_row], [one and one.score for one in of_row]) for of_row in noted]


def prediction_lines(passes: Sequence[EvaluationAnswers], questions: Sequence[VideoQuestion]) -> list[dict]:
    r"""
    Makes a line of a predictions file for each row, in their order, see [`prediction_row`].

    Args:
        passes (`Sequence[EvaluationAnswers]`):
            The passes of [`sampling_of_passes`]. With several, a line has `answers`, one from each anchor start, and
            `shuffled_answer`.
        questions (`Sequence[VideoQuestion]`): The rows.

    Raises:
        [`NonFiniteError`]: If the model's scores of a row are not finite numbers.
    """
    bad = sorted({row for of_pass in passes for row, noted in of_pass.answers.items() if not noted.finite})
    if bad:
        first = questions[bad[0]]
        raise NonFiniteError(
            f"The model's scores of {len(bad)} of {len(questions)} questions are not finite numbers, so its answers "
            f"would be false. The first: {first.question!r} about {first.video} (task {first.task!r}). Its weights "
            "have grown out of bounds: take an earlier checkpoint, or lower the learning rate."
        )
    lines = []
    for row, (question, (answers, scores)) in enumerate(zip(questions, _given(passes, questions))):
        lines.append(prediction_row(question, answers[0], scores[0], passes[0].unreadable.get(row)))
        if len(passes) > 1:
            lines[-1] |= {"answers": answers[:-1], "shuffled_answer": answers[-1]}
        if row in passes[0].frame_times:
            lines[-1]["frame_times"] = passes[0].frame_times[row]
    return lines


def evaluation_metrics(
    passes: Sequence[EvaluationAnswers], questions: Sequence[VideoQuestion], vocabulary: Iterable[str] | None
) -> dict[str, float]:
    """
    Computes the scores of [`score_predictions`] for the first pass and of [`score_consistency`] for all, the mean loss
    of known rows, and counts of rows and cut texts.
    """
    first, (answers, scores) = passes[0], zip(*_given(passes, questions))
    losses = [noted.loss for noted in first.answers.values() if not math.isnan(noted.loss)]
    metrics = score_predictions(questions, [of_row[0] for of_row in answers], vocabulary)
    shuffled = one_start = None
    if len(passes) > 1:
        *starts, _ = passes
        frames = [
            {of_start.answers[row].frames for of_start in starts if row in of_start.answers}
            for row in range(len(questions))
        ]
        answers, scores, shuffled = [a[:-1] for a in answers], [s[:-1] for s in scores], [a[-1] for a in answers]
        one_start = [len(of_row) == 1 for of_row in frames]
    metrics |= score_consistency(questions, answers, scores, shuffled, one_start)
    metrics |= {"loss": sum(losses) / len(losses)} if losses else {}
    metrics |= {"questions": len(questions), "unreadable": len(first.unreadable)}
    return metrics | {"truncated_texts": first.truncated}


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


__all__ = [
    "EvaluationAnswers",
    "Noted",
    "digest_frames",
    "evaluation_metrics",
    "metrics_of_user",
    "prediction_lines",
    "sampling_of_passes",
]
