"""Requests without a model: what they may look like, what is said of the others, and how they share videos."""

from collections import UserDict

import numpy as np
import pytest
import torch

from modeling_siasamrea.requests_siasamrea import answers_in_order, read_request, request_batches


def task_of(task, candidates):
    if task == "unknown":
        raise ValueError("there is no such head.")
    return task or ("open_ended" if candidates is None else "multiple_choice")


VIDEO, TEXT = {"type": "video", "video": "cat.mp4"}, {"type": "text", "text": "who?"}


def chat(*parts):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": list(parts)}]


def read(fields, number=None):
    return read_request({"video": "a.mp4", "question": "what?"} | fields, task_of, number)


@pytest.mark.parametrize("several", [list, tuple, np.array, iter])
def test_questions_of_every_sequence(several):
    questions = read({"question": several(["what?", "who?"])})
    assert [question.text for question in questions] == ["what?", "who?"]
    assert all(question.several and type(question.text) is str for question in questions)


def test_one_question_is_no_list():
    for text in ("what?", np.str_("what?"), np.array("what?")):
        given = UserDict({"video": "a.mp4", "question": text, "candidates": None, "start": None})
        (question,) = read_request(given, task_of)
        assert question.text == "what?" and not question.several and question.candidates is None


def test_a_chat_is_a_request():
    for given in (chat(VIDEO, TEXT), {"messages": chat({"type": "video", "path": "cat.mp4"}, TEXT)}):
        (question,) = read_request(given, task_of)
        assert (question.video, question.text) == ("cat.mp4", "who?")


@pytest.mark.parametrize(
    "candidates",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        [["a", "b"]] * 2,
        np.array([["a", "b"]] * 2),
        [("a", "b"), ["a", "b"]],
    ],
)
def test_candidates_of_all_or_of_each(candidates):
    questions = read({"question": ["what?", "who?"], "candidates": candidates})
    assert [question.candidates for question in questions] == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(({"candidates": wrong}, "candidates") for wrong in ("a b", b"a b", {"a": 1, "b": 2}, {"a", "b"}, 3, True)),
        *(({"candidates": wrong}, "candidates") for wrong in ([], ["a"], ["a", "b", "a "], [["a"]])),
        *(({"candidates": ["a", wrong]}, "candidate 1") for wrong in (" ", 2, None)),
        ({"question": ["a?", "b?"], "candidates": [["a", "b"]]}, "questions: 2, lists of candidates: 1"),
        *(
            ({"question": ["a?", "b?"], "candidates": [["a", "b"], wrong]}, "candidates")
            for wrong in (None, "ab", ["a"])
        ),
        *(({"question": wrong}, "question 0") for wrong in ("", " \n", [["what?"]])),
        *(
            ({"question": wrong}, "a question")
            for wrong in (float("nan"), b"what?", {"text": "what?"}, [], np.array([]))
        ),
        ({"question": ["what?", float("nan")]}, "question 1"),
        ({"question": None}, "no question"),
        *(({"start": wrong}, "start") for wrong in (float("nan"), -1, "1", [0.0])),
        *(({"end": wrong}, "end") for wrong in (float("inf"), True, 0)),
        ({"start": 3, "end": 3.0}, "the end, 3 s"),
        ({"video": None}, "no video"),
        *(
            ({"video": wrong}, "a video is a path")
            for wrong in (3, float("nan"), " ", {"a.mp4"}, np.zeros((8, 10, 3)))
        ),
        ({"task": "unknown"}, "no such head"),
        ({"quetsion": "a"}, "'quetsion'.*'question'"),
        ({"answer": "a"}, "answer"),
        ({3: "a"}, "3"),
        *(
            ({"messages": wrong}, "messages must be one turn")
            for wrong in (
                "what?",
                [],
                [VIDEO],
                [{"role": "user", "content": "what?"}],
                chat(VIDEO),
                chat(VIDEO, VIDEO),
            )
        ),
        ({"messages": chat(VIDEO, TEXT, TEXT)}, "messages must be one turn"),
        ({"messages": chat(VIDEO, TEXT) + chat(VIDEO, TEXT)}, "messages must be one turn"),
        ({"messages": chat({"type": "video"}, TEXT)}, "no video"),
    ],
)
def test_what_is_wrong_is_said(fields, field):
    with pytest.raises(ValueError, match=f"^Request 7 .from 0. is not right: .*{field}"):
        read(fields, 7)
    with pytest.raises(ValueError, match=f"^The request is not right: .*{field}"):
        read(fields)


def test_what_is_given_for_all():
    defaults = {"question": "what?", "start": 1.0}

    def spans(request):
        return [(question.video, question.start) for question in read_request(request, task_of, 0, defaults)]

    assert spans({"video": "a.mp4", "start": 2.0}) == [("a.mp4", 2.0)]
    assert spans({"video": "a.mp4", "start": None}) == spans("a.mp4") == [("a.mp4", 1.0)]
    assert spans({"path": "a.mp4", "bytes": None}) == [({"path": "a.mp4", "bytes": None}, 1.0)]


def batches(requests, batch_size=1, window=None):
    return list(
        request_batches([read(request, number) for number, request in enumerate(requests)], batch_size, window)
    )


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
    spans = [span for (span,) in batches(requests)]
    assert [[question.request for question in span] for span in spans] == [[0, 2], [1, 4], [3], [5, 6], [7, 8, 8]]
    assert [(question.task, question.position) for question in spans[4]] == [
        ("open_ended", 0),
        ("multiple_choice", 0),
        ("multiple_choice", 1),
    ]
    assert batches(requests, batch_size=3) == [spans[:3], spans[3:]]


def test_a_window_is_read_at_a_time():
    taken = []
    requests = (taken.append(number) or read({"video": f"{number % 2}.mp4"}) for number in range(8))
    stream = request_batches(requests, 4, 4)
    assert not taken
    assert [span[0].video for span in next(stream)] == ["0.mp4", "1.mp4"] and taken == [0, 1, 2, 3]


def test_answers_come_in_the_order_of_the_requests_as_soon_as_they_can():
    taken = []
    a, (b,) = read({}, 0), read({}, 1)
    c, d = read({"question": ["c", "d"]}, 2)
    (e,) = read({"question": ["e"]}, 3)

    def answers():
        for of_batch in ([(b, "b"), (d, "d"), (c, "c")], [(a[0], "a")], [(e, "e")]):
            taken.append(of_batch)
            yield of_batch

    stream = answers_in_order(answers())
    assert next(stream) == "a" and len(taken) == 2
    assert list(stream) == ["b", ["c", "d"], ["e"]]
