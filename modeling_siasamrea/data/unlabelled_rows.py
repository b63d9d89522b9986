"""Training rows without an answer, which the siamese loss alone learns from: counts, leaves out or refuses them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from transformers.utils import logging

from .questions import VideoQuestion


logger = logging.get_logger(__name__)


def name_unlabelled(rows: Sequence[VideoQuestion]) -> str | None:
    """Says how many rows have no answer, by task, and the `question_id` of the first; `None` if each has one."""
    unlabelled = [row for row in rows if row.answer is None]
    if not unlabelled:
        return None
    by_task = ", ".join(f"{count} {task}" for task, count in Counter(row.task for row in unlabelled).items())
    first = unlabelled[0].question_id
    return f"rows without an answer: {len(unlabelled)} of {len(rows)} ({by_task}; the first: {first!r})"


def note_unlabelled(rows: Sequence[VideoQuestion], alpha: float) -> None:
    """Warns that training rows have no answer; raises a `ValueError` if there is no siamese loss, so `alpha` is 0."""
    named = name_unlabelled(rows)
    if named is not None and not alpha:
        raise ValueError(f"Training: {named}. With alpha=0 nothing learns from them: leave them out, or raise alpha.")
    if named is not None:
        logger.warning(f"Training: {named}. The siamese loss alone learns from them.")


def leave_out_unlabelled(rows: Sequence[VideoQuestion], alpha: float) -> list[VideoQuestion]:
    """Keeps the training rows that a loss learns from: those with an answer, if the siamese loss has no weight."""
    named = name_unlabelled(rows)
    if named is None or alpha:
        return list(rows)
    logger.warning(f"Training: {named}. They are left out, because with alpha=0 nothing learns from them.")
    return [row for row in rows if row.answer is not None]


def refuse_unlabelled(rows: Sequence[VideoQuestion]) -> None:
    """Raises a `ValueError` if a training row of a video-language model has no answer."""
    named = name_unlabelled(rows)
    if named is not None:
        raise ValueError(
            f"Training: {named}. A video-language model learns from the tokens of the right answer, in both terms of "
            "the loss. Leave these rows out."
        )


def refuse_heads_without_answers(rows: Sequence[VideoQuestion], tasks: Iterable[str]) -> None:
    """Raises a `ValueError` if no row of a task has an answer: its new head would only learn to agree with itself."""
    for task in tasks:
        of_task = [row for row in rows if row.task == task]
        if of_task and all(row.answer is None for row in of_task):
            raise ValueError(
                f"No training row of the task {task!r} has an answer, so a new head for it has nothing to learn "
                "from. Give some an answer, leave them out, or start from a model of this task."
            )
