"""Scores of video question answering: pure functions of answers."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from ..data.questions import VideoQuestion


def _by_type(correct: np.ndarray, question_types: Sequence[str | None] | None) -> dict[str, float]:
    """Accuracy of each question type, `accuracy/<type>`; rows without a type are in the overall accuracy only."""
    names = sorted({name for name in question_types or () if name is not None})
    return {f"accuracy/{name}": float(correct[[other == name for other in question_types]].mean()) for name in names}


def open_ended_scores(
    predictions: Sequence[str | None],
    answers: Sequence[str | Sequence[str]],
    question_types: Sequence[str | None] | None = None,
    vocabulary: Iterable[str] | None = None,
) -> dict[str, float]:
    r"""
    Scores of open-ended answers, compared as they are written.

    Args:
        predictions (`Sequence[str | None]`): The model's answers; `None` (an unreadable video) is wrong.
        answers (`Sequence[str | Sequence[str]]`):
            The right answer of each question, or several, of which any is right.
        question_types (`Sequence[str | None]`, *optional*): Type of each question.
        vocabulary (`Iterable[str]`, *optional*): The answers the model can give.

    Returns:
        `dict[str, float]`: `accuracy` over all rows, answers outside the vocabulary counted as wrong (the headline);
        `mean_answer_accuracy`, the mean over distinct right answers of the accuracy on the rows that have them (a row
        with several counts for each, decision); `accuracy/<type>`; and with a vocabulary `accuracy_known` over rows
        with a right answer in it, and `coverage`, their share.
    """
    rights = [(answer,) if isinstance(answer, str) else tuple(dict.fromkeys(answer)) for answer in answers]
    correct = np.array([prediction in right for prediction, right in zip(predictions, rights)], dtype=float)
    of_answer = defaultdict(list)
    for right, outcome in zip(rights, correct):
        for answer in right:
            of_answer[answer].append(outcome)
    scores = {
        "accuracy": float(correct.mean()),
        "mean_answer_accuracy": float(np.mean([np.mean(outcomes) for outcomes in of_answer.values()])),
    }
    if vocabulary is not None:
        vocabulary = set(vocabulary)
        known = np.array([not vocabulary.isdisjoint(right) for right in rights])
        scores["accuracy_known"] = float(correct[known].mean()) if known.any() else 0.0
        scores["coverage"] = float(known.mean())
    return scores | _by_type(correct, question_types)


def multiple_choice_scores(
    predictions: Sequence[int | None], answers: Sequence[int], question_types: Sequence[str | None] | None = None
) -> dict[str, float]:
    r"""
    Scores of multiple-choice answers.

    Args:
        predictions (`Sequence[int | None]`): Index of the chosen candidate; `None` (an unreadable video) is wrong.
        answers (`Sequence[int]`): Index of the right candidate.
        question_types (`Sequence[str | None]`, *optional*): Type of each question.

    Returns:
        `dict[str, float]`: `accuracy` and `accuracy/<type>`.
    """
    correct = np.array([prediction == answer for prediction, answer in zip(predictions, answers)], dtype=float)
    return {"accuracy": float(correct.mean())} | _by_type(correct, question_types)


def round_count(count: float) -> int:
    """A predicted count as TGIF-QA scores it: rounded, then clipped to 1..10 (paper: MSE; decision: its rounding)."""
    return int(np.clip(np.round(count), 1, 10))


def count_errors(predictions: Sequence[float | None], answers: Sequence[float]) -> np.ndarray:
    """Squared error of each count, TGIF-QA's official: predictions by [`round_count`], answers floored at 1."""
    answers = np.asarray(answers, dtype=float)
    official = [round_count(count) for count in _with_worst(predictions, answers)]
    return (np.array(official) - np.maximum(answers, 1)) ** 2


def _with_worst(predictions: Sequence[float | None], answers: np.ndarray) -> np.ndarray:
    """Predicted counts, with the answer in 1..10 that is farthest from the right one for an unreadable video."""
    worst = np.where(np.abs(answers - 1) > np.abs(answers - 10), 1.0, 10.0)
    return np.array([fallback if given is None else given for given, fallback in zip(predictions, worst)], dtype=float)


def count_scores(
    predictions: Sequence[float | None], answers: Sequence[float], question_types: Sequence[str | None] | None = None
) -> dict[str, float]:
    r"""
    Scores of counts, in both conventions that are found.

    Args:
        predictions (`Sequence[float | None]`):
            The model's numbers, not rounded. `None` (an unreadable video) is wrong: its accuracy is 0 and its error
            that of the worst answer in 1..10 (decision).
        answers (`Sequence[float]`): The right counts.
        question_types (`Sequence[str | None]`, *optional*): Type of each question.

    Returns:
        `dict[str, float]`: `mse`, TGIF-QA's official score: predictions rounded and clipped to 1..10, answers floored
        at 1; `mse_raw`: neither rounded nor clipped nor floored; `accuracy` (and `accuracy/<type>`): share of official
        predictions that equal the official answer.
    """
    answers = np.asarray(answers, dtype=float)
    readable = np.array([prediction is not None for prediction in predictions])
    raw = _with_worst(predictions, answers)
    errors = count_errors(predictions, answers)
    correct = ((errors == 0) & readable).astype(float)
    return {
        "mse": float(np.mean(errors)),
        "mse_raw": float(np.mean((raw - answers) ** 2)),
        "accuracy": float(correct.mean()),
    } | _by_type(correct, question_types)


def score_predictions(
    questions: Sequence[VideoQuestion],
    predictions: Sequence[str | int | float | None],
    vocabulary: Iterable[str] | None = None,
) -> dict[str, float]:
    r"""
    Scores of a whole evaluation, task by task.

    Args:
        questions (`Sequence[VideoQuestion]`): The rows; those without an answer are not scored.
        predictions (`Sequence`): An answer for each row: text, candidate index or number by its task; `None` is wrong.
        vocabulary (`Iterable[str]`, *optional*): The answers the open-ended head can give.

    Returns:
        `dict[str, float]`: `<task>_<score>` for each task there is, and `accuracy`, the mean over tasks of their
        accuracy. Empty if no row has an answer.
    """
    scores: dict[str, float] = {}
    accuracies = []
    for task in dict.fromkeys(question.task for question in questions):
        pairs = [
            (prediction, question)
            for prediction, question in zip(predictions, questions)
            if question.task == task and question.answer is not None
        ]
        if not pairs:
            continue
        given = [prediction for prediction, _ in pairs]
        answers = [question.answer for _, question in pairs]
        types = [question.question_type for _, question in pairs]
        if task == "open_ended":
            rights = [question.right_answers for _, question in pairs]
            of_task = open_ended_scores(given, rights, types, vocabulary)
        elif task == "multiple_choice":
            of_task = multiple_choice_scores(given, answers, types)
        else:
            of_task = count_scores(given, answers, types)
        scores |= {f"{task}_{name}": value for name, value in of_task.items()}
        accuracies.append(of_task["accuracy"])
    return scores | ({"accuracy": float(np.mean(accuracies))} if accuracies else {})


def is_correct(question: VideoQuestion, prediction: str | int | float | None) -> bool:
    """Whether an answer is right; a count is after rounding and clipping as TGIF-QA does."""
    if prediction is None or question.task != "count":
        return prediction is not None and prediction in question.right_answers
    return round_count(prediction) == max(question.answer, 1)


def prediction_row(
    question: VideoQuestion, prediction: str | int | float | None, score: float | None, error: str | None
) -> dict:
    r"""
    A line of a predictions file.

    Args:
        question (`VideoQuestion`): The row that was asked.
        prediction (`str`, `int` or `float`, *optional*): The answer as annotations write it.
        score (`float`, *optional*): The model's probability of it; no number for counts.
        error (`str`, *optional*): Why the video could not be read.

    Returns:
        `dict`: the row's names, its task and type, `prediction` (with `prediction_text`, the candidate chosen),
        `answer` (a list where several are right) and `correct` where the answer is known, `score` and `error` where
        there are any.
    """
    line = {"question_id": question.question_id, "video": question.video, "question": question.question}
    line["task"] = question.task
    if question.question_type is not None:
        line["question_type"] = question.question_type
    line["prediction"] = prediction
    if question.candidates is not None and prediction is not None:
        line["prediction_text"] = question.candidates[prediction]
    if question.answer is not None:
        answer = list(question.right_answers) if question.other_answers else question.answer
        line |= {"answer": answer, "correct": is_correct(question, prediction)}
    if score is not None and not np.isnan(score):
        line["score"] = score
    return line if error is None else line | {"error": error}


__all__ = [
    "count_errors",
    "count_scores",
    "is_correct",
    "multiple_choice_scores",
    "open_ended_scores",
    "prediction_row",
    "round_count",
    "score_predictions",
]
