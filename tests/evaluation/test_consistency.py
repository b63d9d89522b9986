"""Consistency, calibration and clustered standard errors, on cases worked by hand."""

from functools import partial
from operator import eq

import numpy as np
import pytest

from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.evaluation.consistency import (
    accuracy_at_coverage,
    calibration_scores,
    clustered_standard_error,
    consensus_answer,
    expected_calibration_error,
    flip_rate,
    question_consistency,
    question_shuffled,
    score_consistency,
    video_clusters,
)


def test_the_standard_error_of_rows_that_share_videos():
    # Residuals 1/4, -3/4, 1/4, 1/4 sum to -1/2 and 1/2 in the two videos: 2 / 1 * (1/4 + 1/4) = 1, its root over 4.
    assert clustered_standard_error([1, 0, 1, 1], ["a", "a", "b", "b"]) == pytest.approx(1 / 4)
    # One row a video: the ordinary standard error. Residuals 1/4, 3/4: sum of squares 3/4, over 3, over 4.
    assert clustered_standard_error([1, 0, 1, 1], ["a", "b", "c", "d"]) == pytest.approx((3 / 4 / 3 / 4) ** 0.5)
    # Two rows that always agree say what one says.
    once = clustered_standard_error([1, 0, 0], ["a", "b", "c"])
    assert clustered_standard_error([1, 1, 0, 0, 0, 0], ["a", "a", "b", "b", "c", "c"]) == pytest.approx(once)
    assert clustered_standard_error([1, 0, 1], ["a", "a", "a"]) is None
    # A group with one cluster says nothing of its spread, so neither does the mean over groups.
    assert clustered_standard_error([1, 0, 1, 0], ["a", "b", "a", "a"], ["x", "x", "y", "y"]) is None


def test_starts_as_rows_and_their_mean_as_one_row_have_one_standard_error():
    right = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]])  # (questions, starts)
    videos = np.array(["a", "a", "b", "c"])
    of_means = clustered_standard_error(right.mean(axis=1), videos)
    assert clustered_standard_error(right.ravel(), np.repeat(videos, 3)) == pytest.approx(of_means)


def test_the_standard_error_of_a_mean_over_tasks():
    # Tasks x (1, 0) and y (1, 1, 0), means 1/2 and 2/3. A row of x counts 1/4, one of y 1/6.
    values, videos, tasks = [1, 0, 1, 1, 0], ["a", "b", "a", "b", "c"], ["x", "x", "y", "y", "y"]
    sums = [1 / 2 / 4 + 1 / 3 / 6, -1 / 2 / 4 + 1 / 3 / 6, -2 / 3 / 6]
    expected = (3 / 2 * sum(total**2 for total in sums)) ** 0.5
    assert clustered_standard_error(values, videos, tasks) == pytest.approx(expected)


def test_expected_calibration_error_by_hand():
    # Two bins: 0.2 and 0.4 with one right (0.5 - 0.3), 0.6 and 1.0 with one right (0.5 - 0.8).
    error = expected_calibration_error([1, 0, 0, 1], [0.2, 0.4, 0.6, 1.0], bins=2)
    assert error == pytest.approx((2 * 0.2 + 2 * 0.3) / 4)
    # 0.5 is the upper end of the first bin, so it shares it with 0.4: 0.6 and -0.5 nearly cancel.
    assert expected_calibration_error([1, 0], [0.4, 0.5], bins=2) == pytest.approx((0.6 - 0.5) / 2)
    assert expected_calibration_error([0, 0], [0.0, 0.0]) == 0


def test_accuracy_at_coverage_by_hand():
    correct, scores = [0, 1, 1, 0], [0.1, 0.9, 0.8, 0.7]
    assert accuracy_at_coverage(correct, scores, 50) == 1
    assert accuracy_at_coverage(correct, scores, 70) == pytest.approx(2 / 3)  # 2.8 questions, rounded up
    assert accuracy_at_coverage(correct, scores, 90) == 1 / 2
    # The second question is either of two with the same score, whatever their order.
    assert accuracy_at_coverage([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1], 50) == pytest.approx((1 + 1 / 2) / 2)
    assert accuracy_at_coverage([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1], 50) == pytest.approx((1 + 1 / 2) / 2)
    # An unreadable video comes last.
    assert accuracy_at_coverage([0, 1], [None, 0.2], 50) == 1
    assert accuracy_at_coverage([1] * 63 + [0] * 27, np.linspace(1, 0, 90), 70) == 1  # 0.7 * 90 is less in floats


def test_calibration_needs_scores():
    assert calibration_scores([1, 0], [None, None]) == {}
    scores = calibration_scores([1, 0], [0.75, None])
    assert scores["expected_calibration_error"] == pytest.approx(1 / 4)  # of the one row that has a score
    assert scores["accuracy_at_50_coverage"] == 1 and scores["accuracy_at_90_coverage"] == 1 / 2


def test_the_consensus_and_how_ties_are_settled():
    assert consensus_answer(["dog", "cat", "cat"], [0.9, 0.3, 0.3]) == "cat"
    assert consensus_answer(["dog", "cat", "cat", "dog"], [0.5, 0.6, 0.3, 0.3]) == "cat"
    assert consensus_answer([3, 4, 4, 3]) == 3  # no scores: the centred anchor's, which comes first
    assert consensus_answer([None, "cat"], [None, 0.1]) == "cat"
    assert consensus_answer([None, None]) is None


def test_the_flip_rate_is_that_of_two_different_starts():
    assert flip_rate(["a", "a", "a"]) == 0
    assert flip_rate(["a", "b"]) == 1
    assert flip_rate(["a", "a", "b"]) == pytest.approx(2 / 3)  # of the three pairs, one is the same
    assert flip_rate(["a", "a", "b", "c"]) == pytest.approx(5 / 6)


def test_one_question():
    right = partial(eq, "cat")
    assert question_consistency(["cat", "dog", "dog", "dog"], right) == {
        "accuracy": 1,
        "expected_accuracy": 1 / 4,
        "consensus_accuracy": 0,
        "flip_rate": pytest.approx(1 / 2),
        "one_answer_share": 0,
    }
    assert question_consistency(["cat"], right) == {"accuracy": 1}
    # Constancy without a right answer, and a video that could not be read.
    assert question_consistency(["owl", "owl"]) == {"flip_rate": 0, "one_answer_share": 1}
    assert question_consistency([None, None], right) == {
        "accuracy": 0,
        "expected_accuracy": 0,
        "consensus_accuracy": 0,
    }
    assert question_shuffled("cat", "dog", right) == {"shuffled_accuracy": 0, "shuffled_flip_rate": 1}
    assert question_shuffled(None, None, right) == {"shuffled_accuracy": 0}


def test_scores_of_an_evaluation_by_hand():
    rows = [{"video": video, "question": "what?", "answer": "a"} for video in "vvwx"]
    scores = score_consistency(
        load_video_questions(rows),
        [["a", "a", "b"], ["b", "c", "c"], [None, None, None], ["a", "a", "a"]],
        scores=[[0.9, 0.8, 0.6], [0.4, 0.5, 0.6], [None] * 3, [0.7, 0.7, 0.7]],
        shuffled=["b", "b", None, "a"],
    )
    assert scores["accuracy"] == 2 / 4
    assert scores["expected_accuracy"] == pytest.approx((2 / 3 + 0 + 0 + 1) / 4)
    assert scores["consensus_accuracy"] == 2 / 4
    assert scores["flip_rate"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)  # of the three that were read
    assert scores["one_answer_share"] == pytest.approx(1 / 3)
    assert scores["shuffled_accuracy"] == 1 / 4 and scores["shuffled_flip_rate"] == pytest.approx(1 / 3)
    assert scores["open_ended_accuracy_at_50_coverage"] == 1
    # Residuals of the accuracy: 1/2 and -1/2 in v, -1/2 in w, 1/2 in x.
    assert scores["accuracy_standard_error"] == pytest.approx((3 / 2 * (0 + 1 / 4 + 1 / 4)) ** 0.5 / 4)


def test_scores_of_mixed_tasks():
    rows = [{"video": f"v{number}", "question": "what?", "answer": "cat"} for number in range(2)]
    rows += [{"video": "v0", "question": "how many?", "answer": 3, "task": "count"}]
    questions = load_video_questions(rows)
    assert "accuracy_standard_error" not in score_consistency(questions, [["cat"], ["cat"], [3]], [[1], [1], [None]])
    predictions = [["cat", "cat"], ["dog", "owl"], [2.6, 3.4]]
    scores = score_consistency(questions, predictions, [[0.9, 0.9], [0.6, 0.5], [None, None]])
    # 2.6 and 3.4 are one answer: 3.
    assert scores["count_flip_rate"] == 0 and scores["count_expected_accuracy"] == 1
    assert scores["open_ended_flip_rate"] == 1 / 2 and scores["flip_rate"] == 1 / 4
    assert scores["accuracy"] == 3 / 4 and scores["open_ended_accuracy_standard_error"] == pytest.approx(1 / 2)
    assert "count_accuracy_standard_error" not in scores  # one video
    assert scores["open_ended_expected_calibration_error"] == pytest.approx((0.1 + 0.6) / 2)
    assert "count_expected_calibration_error" not in scores and "shuffled_flip_rate" not in scores


def test_the_standard_error_of_counts():
    answers = [{"video": f"v{number}", "question": "how many?", "answer": 3, "task": "count"} for number in range(3)]
    answers = [{**row, "count_range": [1, 10]} for row in answers]
    scores = score_consistency(load_video_questions(answers), [[2.6], [5.4], [None]], [[None]] * 3)
    # Official errors 0, 4 and (an unreadable video is as wrong as can be) 49.
    assert scores["count_mse_standard_error"] == pytest.approx(np.std([0, 4, 49], ddof=1) / 3**0.5)
    assert "mse" not in scores


def test_rows_without_answers_have_flips_alone():
    questions = load_video_questions([{"video": "v", "question": "what?"}], require_answers=False)
    assert score_consistency(questions, [["a", "b"]], [[0.5, 0.5]]) == {
        "open_ended_flip_rate": 1,
        "open_ended_one_answer_share": 0,
        "flip_rate": 1,
        "one_answer_share": 0,
    }


def test_a_video_is_itself_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    videos = [tmp_path / "a.mp4", "a.mp4", "./a.mp4", "link.mp4", "b.mp4"]
    videos += [{"path": "v.mp4", "bytes": data} for data in (b"one", b"two", b"one")]
    questions = load_video_questions([{"video": video, "question": "q", "answer": "a"} for video in videos])
    clusters = video_clusters(questions)
    assert [clusters.index(cluster) for cluster in clusters] == [0, 0, 0, 0, 4, 5, 6, 5]


def test_a_video_of_one_start_has_no_flips():
    rows = [{"video": f"v{number}", "question": "what?", "answer": "cat"} for number in range(3)]
    predictions, scores = [["cat", "cat"], ["cat", "dog"], ["dog", "dog"]], [[0.5, 0.5]] * 3
    questions = load_video_questions(rows)
    steady = score_consistency(questions, predictions, scores, one_start=[True, False, False])
    assert steady["flip_rate"] == 1 / 2 and steady["one_start_share"] == pytest.approx(1 / 3)
    assert steady["accuracy"] == 2 / 3
    assert "one_start_share" not in score_consistency(questions, predictions, scores)
