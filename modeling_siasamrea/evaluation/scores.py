"""Scores of video question answering: pure functions of answers."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from ..configuration_siasamrea import round_count
from ..data.questions import VideoQuestion


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Averages values by their name."""
    of_name = defaultdict(list)
    for name, value in pairs:
        of_name[name].append(value)
    return {name: float(np.mean(values)) for name, values in of_name.items()}


def _by_type(correct: np.ndarray, question_types: Sequence[str | None] | None) -> dict[str, float]:
    """Averages over each question type, `accuracy/<type>`; rows without a type are in the overall accuracy only."""
    pairs = sorted((name, outcome) for name, outcome in zip(question_types or (), correct) if name is not None)
    return {f"accuracy/{name}": value for name, value in _means(pairs).items()}


def _composed(text: str | None) -> str | None:
    """Writes a text in composed Unicode (NFC), so that texts that look equal are equal."""
    return None if text is None else unicodedata.normalize("NFC", text)


def open_ended_scores(
    predictions: Sequence[str | None],
    answers: Sequence[str | Sequence[str]],
    question_types: Sequence[str | None] | None = None,
    vocabulary: Iterable[str] | None = None,
) -> dict[str, float]:
    r"""
    Scores open-ended answers. They are compared as they are written, in one Unicode form.

    Args:
        predictions (`Sequence[str | None]`): The model's answers; `None` (an unreadable video) is wrong.
        answers (`Sequence[str | Sequence[str]]`): The right answer of each question, or several that are all right.
        question_types (`Sequence[str | None]`, *optional*): Type of each question.
        vocabulary (`Iterable[str]`, *optional*): The answers the model can give.

    Returns:
        `dict[str, float]`: `accuracy` over all rows, answers outside the vocabulary counted as wrong (the headline);
        `mean_answer_accuracy`, the mean over distinct right answers of the accuracy on the rows that have them (a row
        with several counts for each, decision); `accuracy/<type>`; and with a vocabulary `accuracy_known` over rows
        with a right answer in it, and `coverage`, their share.
    """
    several = [(answer,) if isinstance(answer, str) else answer for answer in answers]
    rights = [tuple(dict.fromkeys(map(_composed, answer))) for answer in several]
    correct = np.array([_composed(given) in right for given, right in zip(predictions, rights)], dtype=float)
    of_answer = _means((answer, outcome) for right, outcome in zip(rights, correct) for answer in right)
    scores = {"accuracy": float(correct.mean()), "mean_answer_accuracy": float(np.mean(list(of_answer.values())))}
    if vocabulary is not None:
        vocabulary = set(map(_composed, vocabulary))
        known = np.array([not vocabulary.isdisjoint(right) for right in rights])
        scores["accuracy_known"] = float(correct[known].mean()) if known.any() else 0.0
        scores["coverage"] = float(known.mean())
    return scores | _by_type(correct, question_types)


def multiple_choice_scores(
    predictions: Sequence[int | None], answers: Sequence[int], question_types: Sequence[str | None] | None = None
) -> dict[str, float]:
    r"""
    Scores multiple-choice answers.

    Args:
        predictions (`Sequence[int | None]`): Index of the chosen candidate; `None` (an unreadable video) is wrong.
        answers (`Sequence[int]`): Index of the right candidate.
        question_types (`Sequence[str | None]`, *optional*): Type of each question.

    Returns:
        `dict[str, float]`: `accuracy` and `accuracy/<type>`.
    """
    correct = np.array([prediction == answer for prediction, answer in zip(predictions, answers)], dtype=float)
    return {"accuracy": float(correct.mean())} | _by_type(correct, question_types)


def count_errors(
    predictions: Sequence[float | None], answers: Sequence[float], count_range: Sequence[int] | None = None
) -> np.ndarray:
    """Computes the squared error of each rounded count, see [`count_scores`]."""
    answers = np.asarray(answers, dtype=float)
    rounded = [round_count(count, count_range) for count in _with_worst(predictions, answers, count_range)]
    return (np.array(rounded) - (answers if count_range is None else answers.clip(*count_range))) ** 2


def _with_worst(
    predictions: Sequence[float | None], answers: np.ndarray, count_range: Sequence[int] | None
) -> np.ndarray:
    """Gives an unreadable video the worst possible count: an end of the range, or else 0 or the largest answer."""
    low, high = count_range or (0, max(answers, default=0))
    worst = np.where(np.abs(answers - low) > np.abs(answers - high), low, high)
    return np.array([fallback if given is None else given for given, fallback in zip(predictions, worst)], dtype=float)


def count_scores(
    predictions: Sequence[float | None],
    answers: Sequence[float],
    question_types: Sequence[str | None] | None = None,
    count_range: Sequence[int] | None = None,
) -> dict[str, float]:
    r"""
    Scores counts.

    Args:
        predictions (`Sequence[float | None]`):
            The model's numbers, not rounded. `None` (an unreadable video) is wrong: its accuracy is 0 and its error
            that of the worst answer in the range, or between 0 and the largest right count (decision).
        answers (`Sequence[float]`): The right counts.
        question_types (`Sequence[str | None]`, *optional*): Type of each question.
        count_range (`Sequence[int]`, *optional*):
            The least and largest count of a benchmark that clips counts; (1, 10) is TGIF-QA's official rule.

    Returns:
        `dict[str, float]`: `mse`, of predictions rounded by [`round_count`]; `mse_raw`, of predictions as they are;
        and `accuracy` (and `accuracy/<type>`). A count is right if no whole number is nearer to the answer than the
        rounded count (decision: of an answer of 2.5, both 2 and 3 are right). With a range, `mse` and `accuracy` clip
        answers too.
    """
    answers = np.asarray(answers, dtype=float)
    errors = count_errors(predictions, answers, count_range)
    correct = np.array([given is not None for given in predictions]) & (errors <= 1 / 4)
    return {
        "mse": float(errors.mean()),
        "mse_raw": float(np.mean((_with_worst(predictions, answers, count_range) - answers) ** 2)),
        "accuracy": float(correct.mean()),
    } | _by_type(correct, question_types)


def score_predictions(
    questions: Sequence[VideoQuestion],
    predictions: Sequence[str | int | float | None],
    vocabulary: Iterable[str] | None = None,
) -> dict[str, float]:
    r"""
    Scores a whole evaluation, task by task.

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
        rows = [row for row, one in enumerate(questions) if one.task == task and one.answer is not None]
        if not rows:
            continue
        given, asked = [predictions[row] for row in rows], [questions[row] for row in rows]
        answers, types = [question.answer for question in asked], [question.question_type for question in asked]
        if task == "open_ended":
            of_task = open_ended_scores(given, [question.right_answers for question in asked], types, vocabulary)
        elif task == "multiple_choice":
            of_task = multiple_choice_scores(given, answers, types)
        else:
            of_task = count_scores(given, answers, types, asked[0].count_range)
        scores |= {f"{task}_{name}": value for name, value in of_task.items()}
        accuracies.append(of_task["accuracy"])
    return scores | ({"accuracy": float(np.mean(accuracies))} if accuracies else {})


def is_correct(question: VideoQuestion, prediction: str | int | float | None) -> bool:
    """Tells whether an answer is right, as [`open_ended_scores`] compares texts and [`count_scores`] counts."""
    if prediction is None or question.task == "multiple_choice":
        return prediction is not None and prediction == question.answer
    if question.task == "count":
        return bool(count_errors([prediction], [question.answer], question.count_range)[0] <= 1 / 4)
    return _composed(prediction) in question.right_answers


def as_scored(question: VideoQuestion, answer: str | int | float | None) -> str | int | None:
    """Returns an answer as it is scored: a count is rounded, see [`round_count`]; others stay as they are."""
    is_count = question.task == "count" and answer is not None
    return round_count(answer, question.count_range) if is_count else answer


def prediction_row(
    question: VideoQuestion, prediction: str | int | float | None, score: float | None, error: str | None
) -> dict:
    r"""
    Makes a line of a predictions file.

    Args:
        question (`VideoQuestion`): The row that was asked.
        prediction (`str`, `int` or `float`, *optional*): The answer as annotations write it.
        score (`float`, *optional*): The model's probability of it; counts have none.
        error (`str`, *optional*): Why the video could not be read.

    Returns:
        `dict`: The row's names, task and type, `start` and `end` of a span, `prediction`, `prediction_text` (the text
        of the chosen candidate, or the count as it is scored), `answer` (a list where several are right) with
        `answer_text` (of the right candidate) and `correct` where it is known, and `score` and `error` if any.
    """
    line = {"question_id": question.question_id, "video": question.video, "question": question.question}
    line["task"] = question.task
    optional = {"question_type": question.question_type, "start": question.start, "end": question.end}
    line |= {name: value for name, value in optional.items() if value is not None}
    line["prediction"] = prediction
    if prediction is not None and question.task != "open_ended":
        scored = as_scored(question, prediction)
        line["prediction_text"] = str(scored) if question.candidates is None else question.candidates[scored]
    if question.answer is not None:
        answer = list(question.right_answers) if question.other_answers else question.answer
        line |= {"answer": answer, "correct": is_correct(question, prediction)}
        if question.candidates is not None:
            line["answer_text"] = question.candidates[question.answer]
    if score is not None and not np.isnan(score):
        line["score"] = score
    return line if error is None else line | {"error": error}
