"""Answers without seeing the video: two baselines."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..data.questions import VideoQuestion


def majority_baseline(train: Sequence[VideoQuestion], test: Sequence[VideoQuestion]) -> list[str | int | float]:
    """Answers with the most frequent training answer of each task (of counts, the mean)."""
    return _blind_answers(train, test, key=lambda question: question.task)


def question_only_baseline(train: Sequence[VideoQuestion], test: Sequence[VideoQuestion]) -> list[str | int | float]:
    """
    Answers as well as possible without the video: with the most frequent training answer of the same question
    (of counts, the mean), and for multiple choice with the candidate that was right most often when that question
    offered it. A question that training never asked gets the answer of its question type, or of its task.
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
    rules: dict[object, Callable[[VideoQuestion], str | int | float]] = {}  # a key's training rows are counted once
    answers = []
    for question in test:
        name = next((name for name in keys(question) if name in known), None)
        if name is None:
            raise ValueError(f"No training row of the task {question.task!r} has an answer to learn from.")
        if name not in rules:
            rules[name] = _learned_answer(question.task, known[name])
        answers.append(rules[name](question))
    return answers


def _learned_answer(task: str, similar: list[VideoQuestion]) -> Callable[[VideoQuestion], str | int | float]:
    """Learns from training rows of one key what a question with this key is answered."""
    if task == "count":
        mean = float(np.mean([other.answer for other in similar]))
        return lambda question: mean
    if task == "open_ended":
        counts = Counter(answer for other in similar for answer in other.right_answers)
        commonest = min(counts, key=lambda answer: (-counts[answer], answer))
        return lambda question: commonest
    offered = Counter(candidate for other in similar for candidate in other.candidates)
    right = Counter(other.candidates[other.answer] for other in similar)
    return lambda question: int(np.argmax([right[one] / max(offered[one], 1) for one in question.candidates]))
