"""Requests without a model: what they may look like, what is said of the others, and how they share videos."""

from collections import UserDict

import numpy as np
import pytest
import torch

from modeling_siasamrea.requests_siasamrea import (
    AnswerStream,
    Place,
    answers_in_order,
    as_request,
    read_request,
    request_batches,
)


def task_of(task, candidates):
    if task == "unknown":
        raise ValueError("there is no such head.")
    return task or ("open_ended" if candidates is None else "multiple_choice")


@pytest.mark.parametrize("several", [list, tuple, np.array, iter])
def test_questions_of_every_sequence(several):
    request = read_request({"video": "a.mp4", "question": several(["what?", "who?"])})
    assert request.questions == ["what?", "who?"] and request.several
    assert all(type(question) is str for question in request.questions)


def test_one_question_is_no_list():
    for question in ("what?", np.str_("what?"), np.array("what?")):
        request = read_request(UserDict({"video": "a.mp4", "question": question, "candidates": None, "start": None}))
        assert request.questions == ["what?"] and not request.several and request.candidates == [None]


@pytest.mark.parametrize(
    "candidates", [["a", "b"], ("a", "b"), np.array(["a", "b"]), [["a", "b"]] * 2, np.array([["a", "b"]] * 2)]
)
def test_candidates_of_all_or_of_each(candidates):
    request = read_request({"video": "a.mp4", "question": ["what?", "who?"], "candidates": candidates})
    assert request.candidates == [["a", "b"], ["a", "b"]]


def test_candidates_of_different_number():
    candidates = [["a", "b", "c"], ("d", "e")]
    request = read_request({"video": "a.mp4", "question": ["what?", "who?"], "candidates": candidates})
    assert request.candidates == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"candidates": "a b"}, r"a list of answers, such as \['a cat', 'a dog'\], not 'a b'"),
        ({"candidates": b"a b"}, "a list of answers.* not b'a b'"),
        ({"candidates": {"a": 1, "b": 2}}, "a list of answers.* not {'a': 1, 'b': 2}"),
        ({"candidates": {"a", "b"}}, "a list of answers"),
        ({"candidates": 3}, "a list of answers.* not 3"),
        ({"candidates": float("nan")}, "a list of answers.* not nan"),
        ({"candidates": True}, "a list of answers.* not True"),
        ({"candidates": []}, r"two candidates or more to choose from; got \[\]"),
        ({"candidates": ["a"]}, r"two candidates or more to choose from; got \['a'\]"),
        ({"candidates": ["a", " "]}, "candidate 1 must be text that is not blank; it is blank"),
        ({"candidates": ["a", "b", "a "]}, "candidates must differ; 'a' comes twice"),
        ({"candidates": [1, 2]}, "candidate 0 must be text .* it is 1; write it as text, '1'"),
        ({"candidates": np.array([1.5, 2])}, "candidate 0 .* it is 1.5; write it as text, '1.5'"),
        ({"candidates": ["a", None]}, "candidate 1 must be text that is not blank; it is None"),
        ({"candidates": [["a", "b"]]}, "candidate|two candidates"),
        ({"question": ["a?", "b?"], "candidates": [["a", "b"]]}, "2 questions, but candidates for 1"),
        ({"question": ["a?", "b?"], "candidates": [["a", "b"], None]}, "one such list for each question"),
        ({"question": ["a?", "b?"], "candidates": [["a", "b"], "ab"]}, "one such list for each question"),
        ({"question": ["a?", "b?"], "candidates": [["a", "b"], ["a"]]}, "two candidates or more"),
        ({"question": ""}, "question 0 must be text that is not blank; it is blank"),
        ({"question": " \n"}, "question 0 must be text that is not blank"),
        ({"question": None}, "has no question"),
        ({"question": float("nan")}, "a question must be text, or a list of texts, not nan"),
        ({"question": b"what?"}, "a question must be text, or a list of texts, not b'what"),
        ({"question": {"text": "what?"}}, "a question must be text, or a list of texts"),
        ({"question": ["what?", float("nan")]}, "question 1 must be text that is not blank; it is nan"),
        ({"question": [["what?"]]}, "question 0 must be text"),
        ({"question": []}, "has an empty list"),
        ({"question": np.array([])}, "has an empty list"),
        ({"start": float("nan")}, "start must be a finite number of seconds, 0 or more, not nan"),
        ({"end": float("inf")}, "end must be a finite number of seconds, 0 or more, not inf"),
        ({"start": -1}, "start must be a finite number of seconds, 0 or more, not -1"),
        ({"start": "1"}, "start must be a finite number .* not '1'"),
        ({"end": True}, "end must be a finite number .* not True"),
        ({"start": [0.0]}, "start must be a finite number"),
        ({"start": 3, "end": 3.0}, "the span ends at 3 s, which is not after its start at 3 s"),
        ({"end": 0}, "the span ends at 0 s, which is not after its start at 0 s"),
        ({"task": 3}, "the task must be a name, not 3"),
        ({"video": None}, "has no video"),
        ({"video": 3}, "a video is a path, .* not 3"),
        ({"video": float("nan")}, "a video is a path, .* not nan"),
        ({"video": np.float64("nan")}, "a video is a path, .* not "),
        ({"video": " "}, "a video is a path, .* not ' '"),
        ({"video": {"a.mp4"}}, "a video is a path"),
        ({"video": object()}, "a column of datasets needs decode=False"),
        ({"video": np.zeros((8, 10, 3))}, "an array of four dimensions"),
        ({"answer": "a"}, "has a field answer"),
        ({3: "a"}, "has a field 3"),
    ],
)
def test_what_is_wrong_is_said(fields, sentence):
    request = {"video": "a.mp4", "question": "what?"} | fields
    with pytest.raises(ValueError, match=f"^Request 7 .from 0. is not right: .*{sentence}"):
        read_request(request, 7)
    with pytest.raises(ValueError, match=f"^The request is not right: .*{sentence}"):
        read_request(request)


@pytest.mark.parametrize("request_", ["a.mp4", None, 3, ["a.mp4", "what?"]])
def test_a_request_is_a_dictionary(request_):
    with pytest.raises(ValueError, match="must be a dictionary with a video and a question, not "):
        read_request(request_)


def test_what_is_given_for_all():
    defaults = {"question": "what?", "start": 1.0}
    assert as_request({"video": "a.mp4", "start": 2.0}, defaults) == {
        "video": "a.mp4",
        "question": "what?",
        "start": 2.0,
    }
    assert as_request({"video": "a.mp4", "start": None}, defaults)["start"] == 1.0
    assert as_request("a.mp4", defaults) == defaults | {"video": "a.mp4"}
    assert as_request({"path": "a.mp4", "bytes": None}, defaults)["video"] == {"path": "a.mp4", "bytes": None}
    assert as_request("a.mp4", {}) == "a.mp4"


def batches(requests, batch_size=1, window=None):
    read = [read_request({"question": "what?"} | request, number) for number, request in enumerate(requests)]
    return list(request_batches(read, batch_size, window, task_of))


def test_requests_about_a_video_share_it_whatever_they_ask():
    frames = torch.zeros(3, 8, 10, 3, dtype=torch.uint8)
    requests = [
        {"video": "a.mp4"},
        {"video": frames},
        {"video": "a.mp4", "candidates": ["x", "y"]},
        {"video": "a.mp4", "start": 1.0},
        {"video": frames, "candidates": ["x", "y", "z"]},
        {"video": b"film", "task": "count"},
        {"video": bytes(bytearray(b"film"))},
        {"video": ["1.png", "2.png"]},
        {"video": ["1.png", "2.png"], "question": ["what?", "who?"], "candidates": [["x", "y"], ["x", "y", "z"]]},
    ]
    alone = batches(requests)
    assert [batch.videos[0] for batch in alone] == ["a.mp4", frames, "a.mp4", b"film", ["1.png", "2.png"]]
    assert [batch.starts for batch in alone] == [[None], [None], [1.0], [None], [None]]
    kinds = [[(one.task, [place.request for place in one.places]) for one in batch.questions] for batch in alone]
    assert kinds[0] == [("open_ended", [0]), ("multiple_choice", [2])]
    assert kinds[4] == [("open_ended", [7]), ("multiple_choice", [8]), ("multiple_choice", [8])]
    together = batches(requests, batch_size=3)
    assert [len(batch.videos) for batch in together] == [3, 2]
    assert [(one.texts, one.video_index) for one in together[0].questions] == [
        (["what?"] * 3, [0, 1, 2]),
        (["what?"], [0]),
        (["what?"], [1]),
    ]


def test_a_window_is_read_at_a_time():
    taken = []
    requests = (taken.append(number) or {"video": f"{number % 2}.mp4", "question": "what?"} for number in range(8))
    stream = request_batches(map(read_request, requests), 4, 4, task_of)
    assert not taken
    assert next(stream).videos == ["0.mp4", "1.mp4"] and taken == [0, 1, 2, 3]


def test_a_task_that_does_not_fit_is_said_with_its_request():
    with pytest.raises(ValueError, match="^Request 1 .from 0. is not right: there is no such head"):
        batches([{"video": "a.mp4"}, {"video": "b.mp4", "task": "unknown"}])


def test_answers_come_in_the_order_of_the_requests_as_soon_as_they_can():
    taken = []

    def answers():
        for of_batch in (
            [(Place(1, 0, False), "b"), (Place(2, 1, True), "d"), (Place(2, 0, True), "c")],
            [(Place(0, 0, False), "a")],
            [(Place(3, 0, True), "e")],
        ):
            taken.append(of_batch)
            yield of_batch

    stream = AnswerStream(answers_in_order(answers()), "abcd")
    assert next(stream) == "a" and len(taken) == 2 and len(stream) == 4
    assert list(stream) == ["b", ["c", "d"], ["e"]]
