"""Notes the answers of an evaluation batch by batch, and scores them when all processes are done."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object

from ..configuration_siasamrea import SiaSamReaConfig
from ..data.questions import VideoQuestion
from ..loss_siasamrea import ground_truth_loss
from ..modeling_siasamrea import NonFiniteError
from .consistency import Answer, score_consistency
from .scores import as_scored, prediction_row, score_predictions


class Noted(NamedTuple):
    """
    What a model answers to a row.

    Args:
        answer (`str`, `int` or `float`, *optional*): The answer, as the annotations would write it.
        score (`float`, *optional*): Its probability; `None` for counts.
        loss (`float`): The ground-truth loss; NaN where the right answer is not known.
        finite (`bool`): Whether the scores behind the answer are finite numbers.
        frames (`str`, *optional*): A digest of the frames that the model saw, see [`digest_frames`].
    """

    answer: Answer | None
    score: float | None
    loss: float
    finite: bool
    frames: str | None


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
        self.truncated = 0
        for answers, unreadable, frame_times, truncated in gather_object([noted]):
            self.answers |= answers
            self.unreadable |= unreadable
            self.frame_times |= frame_times
            self.truncated += truncated


def sampling_of_passes(offsets: int) -> list[dict[str, Any]]:
    """
    Returns how each pass of an evaluation samples clips: from one of K anchor starts, the centred one first; with
    several starts, one more pass shuffles the frames of the centred one.
    """
    if offsets == 1:
        return [{}]
    return [{"eval_offset": (k, offsets)} for k in range(offsets)] + [{"shuffle_frames": True}]


def digest_frames(frames: torch.Tensor) -> str:
    """Returns a digest of frames, which tells whether two passes saw the same."""
    return hashlib.blake2b(frames.cpu().contiguous().flatten().view(torch.uint8).numpy(), digest_size=8).hexdigest()


def score_passes(
    passes: Sequence[EvaluationAnswers], questions: Sequence[VideoQuestion], vocabulary: Iterable[str] | None
) -> tuple[list[dict], dict[str, float]]:
    r"""
    Makes the lines of a predictions file and the scores of an evaluation.

    Args:
        passes (`Sequence[EvaluationAnswers]`): The passes of [`sampling_of_passes`].
        questions (`Sequence[VideoQuestion]`): The rows.
        vocabulary (`Iterable[str]`, *optional*): The answers that the model can give to an open-ended question.

    Returns:
        `tuple(list[dict], dict[str, float])`: A line for each row, in their order, see [`prediction_row`]; of several
        passes also `answers`, one from each anchor start, and `shuffled_answer`, with counts as they are scored. And
        the scores of [`score_predictions`] for the first pass and of [`score_consistency`] for all, the mean loss of
        known rows (if there are any), and counts of rows, unreadable ones and cut texts.

    Raises:
        [`NonFiniteError`]: If the model's scores of a row are not finite numbers.
    """
    bad = sorted({row for of_pass in passes for row, noted in of_pass.answers.items() if not noted.finite})
    if bad:
        first = questions[bad[0]]
        raise NonFiniteError(
            f"The scores of {len(bad)} of {len(questions)} questions are not finite, first {first.question!r} about "
            f"{first.video}: take an earlier checkpoint, or lower the learning rate."
        )
    first, several, unread = passes[0], len(passes) > 1, Noted(None, None, math.nan, True, None)
    noted = [[of_pass.answers.get(row, unread) for of_pass in passes] for row in range(len(questions))]
    lines = []
    for row, (question, of_row) in enumerate(zip(questions, noted)):
        lines.append(prediction_row(question, of_row[0].answer, of_row[0].score, first.unreadable.get(row)))
        if several:
            *answers, shuffled = [as_scored(question, one.answer) for one in of_row]
            lines[-1] |= {"answers": answers, "shuffled_answer": shuffled}
        if row in first.frame_times:
            lines[-1]["frame_times"] = first.frame_times[row]
    starts = [of_row[:-1] if several else of_row for of_row in noted]
    metrics = score_predictions(questions, [of_row[0].answer for of_row in noted], vocabulary) | score_consistency(
        questions,
        [[one.answer for one in of_row] for of_row in starts],
        [[one.score for one in of_row] for of_row in starts],
        [of_row[-1].answer for of_row in noted] if several else None,
        [len({one.frames for one in of_row} - {None}) == 1 for of_row in starts] if several else None,
    )
    losses = [one.loss for one in first.answers.values() if not math.isnan(one.loss)]
    metrics |= {"loss": sum(losses) / len(losses)} if losses else {}
    metrics |= {"questions": len(questions), "unreadable": len(first.unreadable), "truncated_texts": first.truncated}
    return lines, metrics
