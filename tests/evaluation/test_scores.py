"""Scores and baselines, on cases worked by hand."""

import random
from dataclasses import replace

import pytest

from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.evaluation.baselines import majority_baseline, question_only_baseline
from modeling_siasamrea.evaluation.confusion import answer_texts, confusion_table
from modeling_siasamrea.evaluation.scores import (
    count_scores,
    multiple_choice_scores,
    open_ended_scores,
    prediction_row,
    score_predictions,
)


def rows(*columns: tuple, **constant) -> list:
    names = ("question", "answer")
    return load_video_questions([{"video": "v", **constant, **dict(zip(names, column))} for column in columns])


def test_open_ended_scores_by_hand():
    scores = open_ended_scores(
        predictions=["cat", "dog", "cat", None, "cat"],
        answers=["cat", "cat", "cat", "dog", "owl"],
        question_types=["what", "what", "who", "who", None],
        vocabulary=["cat", "dog"],
    )
    assert scores == {
        "accuracy": pytest.approx(2 / 5),
        "mean_answer_accuracy": pytest.approx((2 / 3 + 0 + 0) / 3),
        "accuracy_known": pytest.approx(2 / 4),
        "coverage": pytest.approx(4 / 5),
        "accuracy/what": pytest.approx(1 / 2),
        "accuracy/who": pytest.approx(1 / 2),
    }


def test_any_of_several_right_answers_is_right():
    scores = open_ended_scores(
        predictions=["couch", "sofa", "cat", None],
        answers=[("sofa", "couch"), "sofa", ["dog", "owl"], ["cat"]],
        vocabulary=["couch", "owl"],
    )
    assert scores == {
        "accuracy": 2 / 4,
        # sofa: both of its rows; couch: its one; dog, owl and cat: none.
        "mean_answer_accuracy": pytest.approx((1 + 1 + 0 + 0 + 0) / 5),
        "accuracy_known": 1 / 2,
        "coverage": 2 / 4,
    }
    questions = rows(("q", ["sofa", "couch"]), ("q", "couch"), ("p", ["sofa", "bench"]))
    assert score_predictions(questions, ["couch", "sofa", "bench"])["open_ended_accuracy"] == pytest.approx(2 / 3)
    line = prediction_row(questions[0], "couch", 0.5, None)
    assert line["correct"] is True and line["answer"] == ["sofa", "couch"]
    assert majority_baseline(questions, questions[:1]) == ["couch"]  # as often as sofa, and before it


def test_multiple_choice_scores_by_hand():
    assert multiple_choice_scores([0, None, 2], [0, 1, 1], ["a", "a", "b"]) == {
        "accuracy": pytest.approx(1 / 3),
        "accuracy/a": pytest.approx(1 / 2),
        "accuracy/b": 0.0,
    }


def test_counts_of_a_benchmark_are_clipped_and_own_counts_are_not():
    # 2.4 -> 2; 14 -> 10; -1 -> 1, which equals the answer 0 clipped to 1.
    scores = count_scores([2.4, 14.0, -1.0], [3, 10, 0], count_range=(1, 10))
    assert scores["mse"] == pytest.approx((1 + 0 + 0) / 3)
    assert scores["mse_raw"] == pytest.approx((0.36 + 16 + 1) / 3)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    # Own counts: 12 and 25 are right, -1 counts as 0; of 2.5, both neighbours are right.
    own = count_scores([12.2, 25.0, -1.0, 2.4, 2.6, 3.6], [12, 25, 0, 2.5, 2.5, 2.5])
    assert own["accuracy"] == pytest.approx(5 / 6)
    assert own["mse"] == pytest.approx((0 + 0 + 0 + 0.25 + 0.25 + 2.25) / 6)
    questions = rows(("how many?", 12), task="count") + rows(("how many?", 12), task="count", count_range=[1, 10])
    for question, accuracy in zip(questions, (1, 1)):
        assert score_predictions([question], [12.0])["count_accuracy"] == accuracy
        assert prediction_row(question, 12.0, None, None)["correct"] is True
    lines = [prediction_row(question, count, None, None) for question in questions for count in (10.0, -1.0)]
    assert [line["correct"] for line in lines] == [False, False, True, False]
    # What is shown is what is scored: rounded, and within the range.
    assert [answer_texts(line) for line in lines] == [(["12"], count) for count in ("10", "0", "10", "1")]
    assert confusion_table(lines) == (["0", "1", "10", "12"], [[0] * 4, [0] * 4, [0, 0, 1, 0], [1, 1, 1, 0]])


def test_an_unreadable_count_is_as_wrong_as_can_be():
    scores = count_scores([None, None], [2, 10], count_range=(1, 10))
    assert scores["mse"] == pytest.approx((8**2 + 9**2) / 2) and scores["accuracy"] == 0
    assert count_scores([None, None], [2, 12])["mse"] == pytest.approx((10**2 + 12**2) / 2)


def test_unicode_forms_of_one_text_are_one_answer():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert open_ended_scores([decomposed, composed], [composed, [decomposed]], vocabulary=[decomposed]) == {
        "accuracy": 1,
        "mean_answer_accuracy": 1,
        "accuracy_known": 1,
        "coverage": 1,
    }
    assert prediction_row(rows(("q", composed))[0], decomposed, None, None)["correct"] is True


def test_scores_of_a_mixed_evaluation():
    questions = rows(("q", "cat"), ("q", "dog")) + rows(("q", 1), candidates=["x", "y"])
    questions += load_video_questions([{"video": "v", "question": "q"}], require_answers=False)
    scores = score_predictions(questions, ["cat", None, 1, "no answer to compare"], ["cat"])
    assert scores["open_ended_accuracy"] == 0.5 and scores["multiple_choice_accuracy"] == 1
    assert scores["accuracy"] == 0.75


def test_a_prediction_row_says_what_was_chosen():
    (question,) = rows(("q", 1), candidates=["x", "y"], question_id="7")
    line = prediction_row(question, 0, 0.75, None)
    assert line["prediction"] == 0 and line["prediction_text"] == "x" and line["score"] == 0.75
    assert line["correct"] is False and line["question_id"] == "7"
    assert prediction_row(question, None, None, "empty file")["error"] == "empty file"


def test_baselines_by_hand():
    train = rows(("colour?", "red"), ("colour?", "red"), ("shape?", "dot"), ("shape?", "dot"), ("shape?", "dot"))
    test = rows(("colour?", "blue"), ("shape?", "dot"), ("size?", "big"))
    train += [replace(train[0], answer=None)] * 3  # rows without an answer teach the baselines nothing
    assert majority_baseline(train, test) == ["dot", "dot", "dot"]
    assert question_only_baseline(train, test) == ["red", "dot", "dot"]

    counts = rows(("a", 2), ("a", 4), ("b", 9), task="count")
    assert majority_baseline(counts, counts[:1]) == [5.0]
    assert question_only_baseline(counts, counts[:1]) == [3.0]
    with pytest.raises(ValueError, match="No training row of the task 'count' has an answer"):
        majority_baseline([replace(counts[0], answer=None)], counts)


def test_the_question_only_baseline_weighs_candidates_by_how_often_they_were_right():
    train = rows(("q", "x"), ("q", "x"), candidates=["x", "y", "z"]) + rows(("q", "z"), candidates=["y", "x", "z"])
    (question,) = rows(("q", "y"), candidates=["y", "z", "x"])
    assert question_only_baseline(train, [question]) == [2]


def test_the_baselines_are_those_of_counting_every_training_row_anew():
    numbers = random.Random(0)
    train = []
    for _ in range(300):
        question, kind = f"q{numbers.randrange(9)}", numbers.choice(["what", "who", None])
        candidates = numbers.sample("pqrstu", numbers.choice([3, 4]))
        row = numbers.choice(
            [
                {"answer": [numbers.choice("xyz"), numbers.choice("xyz")]},
                {"answer": numbers.randrange(20), "task": "count"},
                {"answer": numbers.choice(candidates), "candidates": candidates},
            ]
        )
        train.append({"video": "v", "question": question, "question_type": kind, **row})
    train, test = load_video_questions(train[:200]), load_video_questions(train[200:])
    test += [replace(row, question="never asked") for row in test[:30]]
    for baseline, key in ((majority_baseline, None), (question_only_baseline, "question")):
        for row, answer in zip(test, baseline(train, test), strict=True):
            of_task = [other for other in train if other.task == row.task]
            of_type = [other for other in of_task if other.question_type == row.question_type]
            of_key = [other for other in of_task if key is None or other.question == row.question]
            similar = of_key or of_type or of_task
            if row.task == "count":
                expected = sum(other.answer for other in similar) / len(similar)
            elif row.task == "open_ended":
                answers = sorted(right for other in similar for right in other.right_answers)
                expected = max(answers, key=answers.count)
            else:
                offered = [other for one in row.candidates for other in similar if one in other.candidates]
                assert offered
                rates = [
                    sum(other.candidates[other.answer] == one for other in similar)
                    / max(sum(one in other.candidates for other in similar), 1)
                    for one in row.candidates
                ]
                expected = rates.index(max(rates))
            assert answer == expected
