"""The two baselines that see no video."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..data.questions import VideoQuestion


def majority_baseline(train: Sequence[VideoQuestion], test: Sequence[VideoQuestion]) -> list[str | int | float]:
    """The commonest training answer of each task (of counts, the mean), whatever the question and the video."""
    return _blind_answers(train, test, key=lambda question: question.task)


def question_only_baseline(train: Sequence[VideoQuestion], test: Sequence[VideoQuestion]) -> list[str | int | float]:
    """
    The best answer without the video: the commonest training answer of the same question text (of counts, the mean),
    and for multiple choice the candidate that was right most often when that question offered it. A question that
    training never asked gets the answer of its question type, or of its task.
    """
    return _blind_answers(train, test, key=lambda question: (question.task, question.question))


def _blind_answers(
    train: Sequence[VideoQuestion], test: Sequence[VideoQuestion], key: Callable[[VideoQuestion], object]
) -> list[str | int | float]:
    def keys(question: VideoQuestion) -> tuple:
        return key(question), (question.task, question.question_type), (question.task,)

    known: dict[object, list[VideoQuestion]] = defaultdict(list)
    for question in (one for one in train if one.answer is not None):
        for name in dict.fromkeys(keys(question)):
            known[name].append(question)
    answers = []
    for question in test:
        similar = next((known[name] for name in keys(question) if name in known), None)
        if similar is None:
            raise ValueError(f"No training row of the task {question.task!r} has an answer to learn from.")
        answers.append(_blind_answer(question, similar))
    return answers


def _blind_answer(question: VideoQuestion, similar: list[VideoQuestion]) -> str | int | float:
    if question.task == "count":
        return float(np.mean([other.answer for other in similar]))
    if question.task == "open_ended":
        counts = Counter(answer for other in similar for answer in other.right_answers)
        return min(counts, key=lambda answer: (-counts[answer], answer))
    offered = Counter(candidate for other in similar for candidate in other.candidates)
    right = Counter(other.candidates[other.answer] for other in similar)
    rates = [right[candidate] / max(offered[candidate], 1) for candidate in question.candidates]
    return int(np.argmax(rates))


__all__ = ["majority_baseline", "question_only_baseline"]
