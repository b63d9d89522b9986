"""Consistency of answers over the frames that are sampled, calibration of scores, and standard errors of both."""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np

from ..data.questions import VideoQuestion
from .scores import as_scored, count_errors, is_correct


COVERAGES = (50, 70, 90)  # percent
Answer = str | int | float


def clustered_standard_error(
    values: Sequence[float], clusters: Sequence[Hashable], groups: Sequence[Hashable] | None = None
) -> float | None:
    r"""
    Computes the standard error of a mean whose rows depend on each other within clusters, such as a video's questions.

    With x_i the values, n rows and G clusters, it is the root of G / (G - 1) * sum over clusters of
    (sum over their rows of (x_i - mean) / n)^2. Answers to one question from several starts depend on each other too:
    they lie in one cluster, so their mean as one row and all of them as rows give the same.

    Args:
        values (`Sequence[float]`): One value per row.
        clusters (`Sequence`): The cluster of each row: its video.
        groups (`Sequence`, *optional*): The group of each row, for the mean over groups of their means. Default: one.

    Returns:
        `float`, or `None` if a group has fewer than two clusters, which say nothing about the spread between them.

    Origin: the sandwich estimator (Liang and Zeger, 1986) as Miller, "Adding Error Bars to Evals" (2024), uses it for
    questions that share a context. Decision: the small-sample factor G / (G - 1), with which clusters of one row each
    give the ordinary standard error, and which the bootstrap over clusters lacks.
    """
    values = np.asarray(values, dtype=float)
    group, cluster = _numbered([0] * len(values) if groups is None else groups), _numbered(clusters)
    clusters_of_group = Counter(one for one, _ in set(zip(group, cluster)))
    if min(clusters_of_group.values(), default=0) < 2:
        return None
    sizes = np.bincount(group)
    means = np.bincount(group, values) / sizes
    influence = (values - means[group]) / (sizes[group] * len(sizes))  # (rows,)
    sums = np.bincount(cluster, influence)  # (clusters,)
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()))


def _numbered(names: Sequence[Hashable]) -> list[int]:
    """Numbers names by their first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def expected_calibration_error(correct: Sequence[float], scores: Sequence[float], bins: int = 15) -> float:
    r"""
    Measures how far scores are from the accuracy of the answers that have them.

    Args:
        correct (`Sequence[float]`): 1 for a right answer, 0 for a wrong one.
        scores (`Sequence[float]`): The probability that the model gave each answer.
        bins (`int`, *optional*, defaults to 15): Bins of equal width over [0, 1], each without its lower end.

    Returns:
        `float`: the mean over rows of |accuracy - mean score| of their bin.

    Origin: Guo et al., "On Calibration of Modern Neural Networks" (2017), their 15 bins.
    """
    correct, scores = np.asarray(correct, dtype=float), np.asarray(scores, dtype=float)
    which = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, correct - scores)).sum() / len(scores))


def accuracy_at_coverage(correct: Sequence[float], scores: Sequence[float | None], percent: int) -> float:
    r"""
    Computes the accuracy where the model answers only the questions that it is surest of.

    Args:
        correct (`Sequence[float]`): 1 for a right answer, 0 for a wrong one.
        scores (`Sequence[float | None]`): The score of each answer; `None` (an unreadable video) comes last.
        percent (`int`): Share of the questions that are answered, rounded up to a whole question.

    Returns:
        `float`: the accuracy; if equal scores leave open which questions are chosen, its mean over the choices
        (decision).
    """
    correct = np.asarray(correct, dtype=float)
    scores = np.array([-np.inf if score is None else score for score in scores])
    count = -(-percent * len(scores) // 100)
    threshold = np.sort(scores)[-count]
    surer, tied = scores > threshold, scores == threshold
    return float((correct[surer].sum() + (count - surer.sum()) * correct[tied].mean()) / count)


def calibration_scores(correct: Sequence[float], scores: Sequence[float | None]) -> dict[str, float]:
    """
    Computes `expected_calibration_error` over the rows that have a score, and `accuracy_at_50_coverage`, `..._70_...`
    and `..._90_...` over all; nothing where no row has a score, as with counts.
    """
    scored = [row for row, score in enumerate(scores) if score is not None]
    if not scored:
        return {}
    error = expected_calibration_error([correct[row] for row in scored], [scores[row] for row in scored])
    at_coverage = {
        f"accuracy_at_{percent}_coverage": accuracy_at_coverage(correct, scores, percent) for percent in COVERAGES
    }
    return {"expected_calibration_error": error} | at_coverage


def consensus_answer(answers: Sequence[Answer | None], scores: Sequence[float | None] | None = None) -> Answer | None:
    """
    Chooses the answer that most starts give; in a tie the one whose scores sum to more, then the one given first
    (decision: the first start is the centred anchor). `None` if no start has an answer.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    sums: Counter = Counter()
    for answer, score in zip(answers, scores or []):
        sums[answer] += score or 0.0
    return max(votes, key=lambda answer: (votes[answer], sums[answer]), default=None)


def flip_rate(answers: Sequence[Answer | None]) -> float:
    """Computes the probability that two different starts, drawn at random, answer differently, right or wrong."""
    starts = len(answers)
    same = sum(number * (number - 1) for number in Counter(answers).values())
    return 1 - same / (starts * (starts - 1))


def question_consistency(
    answers: Sequence[Answer | None],
    is_right: Callable[[Answer | None], float] | None = None,
    scores: Sequence[float | None] | None = None,
    one_start: bool = False,
) -> dict[str, float]:
    r"""
    Scores what several anchor starts answer to one question.

    Args:
        answers (`Sequence`):
            The answer from each start, the centred anchor's first; all `None` if the video could not be read. Counts
            are compared as they are given: round them first, see [`as_scored`].
        is_right (`Callable`, *optional*): Says whether an answer is right; without it there are no accuracies.
        scores (`Sequence[float | None]`, *optional*): The score of each answer, for ties of the consensus.
        one_start (`bool`, *optional*, defaults to `False`):
            Whether the video is so short that all starts are one. Its answers are then neither steady nor not.

    Returns:
        `dict[str, float]`: `accuracy` of the first start. With several starts also `expected_accuracy`, the mean over
        them, `consensus_accuracy`, see [`consensus_answer`], `flip_rate`, and `one_answer_share`, 1 where all starts
        agree. An unreadable video is wrong, and neither steady nor not: it has accuracies of 0 alone.

    Origin: decision. Flips are of the answers themselves: two different wrong answers are not consistent.
    """
    of_question: dict[str, float] = {}
    if is_right is not None:
        of_question["accuracy"] = float(is_right(answers[0]))
    if len(answers) == 1:
        return of_question
    if is_right is not None:
        of_question["expected_accuracy"] = float(np.mean([is_right(answer) for answer in answers]))
        of_question["consensus_accuracy"] = float(is_right(consensus_answer(answers, scores)))
    if not one_start and any(answer is not None for answer in answers):
        of_question["flip_rate"] = flip_rate(answers)
        of_question["one_answer_share"] = float(len(set(answers)) == 1)
    return of_question


def question_shuffled(
    answer: Answer | None, shuffled: Answer | None, is_right: Callable[[Answer | None], float] | None = None
) -> dict[str, float]:
    r"""
    Scores the answer to the same frames in another order. A model that ignores what it sees is steady over starts, but
    over orders too; so is a network that takes the mean over a clip's frames, as ClipBERT's and this one do.

    Args:
        answer (`str`, `int` or `float`, *optional*): The answer to the frames in their order; `None` if unreadable.
        shuffled (`str`, `int` or `float`, *optional*): The answer to the same frames in another order.
        is_right (`Callable`, *optional*): Says whether an answer is right; without it there is no accuracy.

    Returns:
        `dict[str, float]`: `shuffled_accuracy`, and `shuffled_flip_rate`, 1 where the two answers differ (not there
        for an unreadable video).
    """
    of_question = {} if is_right is None else {"shuffled_accuracy": float(is_right(shuffled))}
    return of_question if answer is None else of_question | {"shuffled_flip_rate": float(shuffled != answer)}


def mean_scores(
    of_questions: Sequence[dict[str, float]], videos: Sequence[Hashable], tasks: Sequence[str]
) -> dict[str, float]:
    r"""
    Averages the values of questions over each task, and over tasks, with standard errors clustered by video.

    Args:
        of_questions (`Sequence[dict[str, float]]`): Values of each question by their name.
        videos (`Sequence`): The video of each question.
        tasks (`Sequence[str]`): The task of each question.

    Returns:
        `dict[str, float]`: For each name `<task>_<name>`, the mean over the task's questions that have it, and
        `<name>`, the mean over tasks of these; `<name>_standard_error` of both where each task has two videos or more.
    """
    means: dict[str, float] = {}
    for name in dict.fromkeys(name for of_question in of_questions for name in of_question):
        rows = [row for row, of_question in enumerate(of_questions) if name in of_question]
        values = np.array([of_questions[row][name] for row in rows])
        clusters = np.array(_numbered([videos[row] for row in rows]))
        of_tasks = np.array([tasks[row] for row in rows])
        chosen = {f"{task}_{name}": of_tasks == task for task in dict.fromkeys(of_tasks.tolist())}
        means |= {title: float(values[of_task].mean()) for title, of_task in chosen.items()}
        means[name] = float(np.mean([means[title] for title in chosen]))
        for title, some in {**chosen, name: np.full(len(rows), True)}.items():
            error = clustered_standard_error(values[some], clusters[some], of_tasks[some])
            if error is not None:
                means[f"{title}_standard_error"] = error
    return means


def video_clusters(questions: Sequence[VideoQuestion]) -> list[Hashable]:
    """Names each question's video by itself: by its bytes, its address, or the file that its path leads to."""
    real: dict[str, str] = {}
    for video in {question.video for question in questions if question.video_bytes is None}:
        real[video] = video if "://" in video else os.path.realpath(video)
    return [question.video_bytes or real[question.video] for question in questions]


def score_consistency(
    questions: Sequence[VideoQuestion],
    predictions: Sequence[Sequence[Answer | None]],
    scores: Sequence[Sequence[float | None]],
    shuffled: Sequence[Answer | None] | None = None,
    one_start: Sequence[bool] | None = None,
) -> dict[str, float]:
    r"""
    Computes consistency, calibration and standard errors of a whole evaluation, task by task.

    Args:
        questions (`Sequence[VideoQuestion]`): The rows; those without an answer have flips but no accuracy.
        predictions (`Sequence[Sequence]`):
            For each row its answers from K starts, the centred anchor's first: text, candidate index or number by its
            task (counts are rounded here); all `None` if the video could not be read.
        scores (`Sequence[Sequence[float | None]]`): The probability of each answer; `None` for counts.
        shuffled (`Sequence`, *optional*): For each row the answer to its first start's frames in another order.
        one_start (`Sequence[bool]`, *optional*):
            For each row whether its video is too short for a second start; such rows have no flips.

    Returns:
        `dict[str, float]`: Means of [`question_consistency`] and [`question_shuffled`] with their standard errors, see
        [`mean_scores`]; `<task>_<score>` of [`calibration_scores`]; `count_mse_standard_error`; and `one_start_share`,
        the share of rows of one start, if there are any.
    """
    of_questions = []
    for row, question in enumerate(questions):
        is_right = None if question.answer is None else partial(is_correct, question)
        answers = [as_scored(question, answer) for answer in predictions[row]]
        single = one_start is not None and one_start[row]
        of_questions.append(question_consistency(answers, is_right, scores[row], single))
        if shuffled is not None:
            of_questions[-1] |= question_shuffled(answers[0], as_scored(question, shuffled[row]), is_right)
    tasks, videos = [question.task for question in questions], video_clusters(questions)
    means = mean_scores(of_questions, videos, tasks)
    if one_start is not None and any(one_start):
        means["one_start_share"] = float(np.mean(one_start))
    for task in dict.fromkeys(tasks):
        rows = [row for row, name in enumerate(tasks) if name == task and "accuracy" in of_questions[row]]
        of_task = calibration_scores([of_questions[row]["accuracy"] for row in rows], [scores[row][0] for row in rows])
        means |= {f"{task}_{name}": value for name, value in of_task.items()}
        if task == "count" and rows:
            answers = [questions[row].answer for row in rows]
            errors = count_errors([predictions[row][0] for row in rows], answers, questions[rows[0]].count_range)
            of_mse = clustered_standard_error(errors, [videos[row] for row in rows])
            means |= {} if of_mse is None else {"count_mse_standard_error": of_mse}
    return means


def consistency_scores(
    predictions: Sequence[Sequence[str | None]],
    references: Sequence[str],
    videos: Sequence[str],
    scores: Sequence[Sequence[float | None]] | None = None,
    shuffled: Sequence[str | None] | None = None,
) -> dict[str, float]:
    r"""
    Scores open-ended answers from several anchor starts, of any model.

    Args:
        predictions (`Sequence[Sequence]`):
            For each question its answers from K starts, the centred anchor's first; all `None` if the video could not
            be read.
        references (`Sequence`): The right answers.
        videos (`Sequence[str]`): The video of each question.
        scores (`Sequence[Sequence[float | None]]`, *optional*): The probability of each answer.
        shuffled (`Sequence`, *optional*): For each question the answer to its first start's frames in another order.

    Returns:
        `dict[str, float]`: See [`score_consistency`].

    Raises:
        `ValueError`: If the lists are not of the same questions, or the numbers of starts differ.
    """
    scores = [[None] * len(answers) for answers in predictions] if scores is None else scores
    lists = [predictions, references, videos, scores] + ([] if shuffled is None else [shuffled])
    starts = {len(of_question) for of_question in (*predictions, *scores)}
    if len({len(of_questions) for of_questions in lists}) != 1 or len(starts) != 1 or 0 in starts:
        raise ValueError("The lists must have one entry per question, with as many answers and scores in each.")
    questions = [
        VideoQuestion(video, "", reference, "open_ended", str(row))
        for row, (video, reference) in enumerate(zip(videos, references))
    ]
    return score_consistency(questions, predictions, scores, shuffled)
