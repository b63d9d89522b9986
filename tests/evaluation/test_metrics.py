"""The `evaluate` modules: hand-worked scores, without a network."""

import pytest

import modeling_siasamrea


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("a metric must load without a network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_open_ended():
    scores = modeling_siasamrea.load_metric("open_ended").compute(
        predictions=["cat", "cat", None, "dog"],
        references=["cat", "dog", "cat", "okapi"],
        question_types=["what", "what", "who", "who"],
        vocabulary=["cat", "dog"],
    )
    # One of four is right; of the three answers that the vocabulary has, one is right.
    assert scores["accuracy"] == 1 / 4 and scores["accuracy_known"] == 1 / 3 and scores["coverage"] == 3 / 4
    assert scores["accuracy/what"] == 1 / 2 and scores["accuracy/who"] == 0
    assert scores["mean_answer_accuracy"] == pytest.approx((1 / 2 + 0 + 0) / 3)


def test_several_right_answers():
    references = [["sofa", "couch"], "cat", ["dog"]]
    scores = modeling_siasamrea.load_metric("open_ended").compute(
        predictions=["couch", "cat", None], references=references
    )
    assert scores["accuracy"] == 2 / 3


def test_multiple_choice():
    scores = modeling_siasamrea.load_metric("multiple_choice").compute(predictions=[0, 3, None], references=[0, 2, 1])
    assert scores == {"accuracy": 1 / 3}


def test_count():
    scores = modeling_siasamrea.load_metric("count").compute(
        predictions=[2.4, 12.0, -1.0], references=[2, 10, 0], count_range=[1, 10]
    )
    # Official: 2 and 2, 10 and 10, 1 and 1. Raw: 0.16, 4 and 1.
    assert scores["mse"] == 0 and scores["accuracy"] == 1
    assert scores["mse_raw"] == pytest.approx((0.16 + 4 + 1) / 3)


def test_always_answering_two_costs_less_officially_than_raw():
    answers = [0, 2, 3, 10]
    scores = modeling_siasamrea.load_metric("count").compute(
        predictions=[2.0] * 4, references=answers, count_range=[1, 10]
    )
    assert scores["mse"] == (1 + 0 + 1 + 64) / 4 and scores["mse_raw"] == (4 + 0 + 1 + 64) / 4


def test_consistency_of_any_model_s_answers():
    consistency = modeling_siasamrea.load_metric("consistency")
    scores = consistency.compute(
        predictions=[["cat", "dog"], [None, None], ["cat", "cat"]],
        references=["cat", "cat", "dog"],
        videos=["a", "b", "c"],
        scores=[[0.9, 0.5], [None, None], [0.6, 0.7]],
        shuffled=["cat", None, "dog"],
    )
    assert scores["accuracy"] == pytest.approx(1 / 3) and scores["expected_accuracy"] == pytest.approx(1 / 6)
    assert scores["flip_rate"] == 1 / 2 and scores["shuffled_accuracy"] == pytest.approx(2 / 3)
    assert scores["open_ended_expected_calibration_error"] == pytest.approx((0.1 + 0.6) / 2)
    with pytest.raises(ValueError, match="The lists"):
        consistency.compute(predictions=[["cat"], ["cat", "dog"]], references=["cat", "cat"], videos=["a", "b"])


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="no metric 'bleu'; choose from open_ended, multiple_choice, count"):
        modeling_siasamrea.load_metric("bleu")
