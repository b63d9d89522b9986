"""Requests as lines of JSON, and their answers: whatever a line holds, it gets one answer or one error."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:  # Ray's workers that handle texts alone do not import it
    from transformers import Pipeline


ANSWER_FIELDS = ("answer", "answers", "error")
REQUESTS_TOGETHER = 16  # their texts go through the model in one pass
# What a request may raise: a field that makes no sense, text that no tokenizer takes, a number out of range.
REFUSED = (ValueError, TypeError, OverflowError, RecursionError)


def parse_line(line: str) -> dict[str, Any]:
    """Reads the JSON object on a line; anything else goes under `request`, so that its answer can name it."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = line
    return request if isinstance(request, dict) else {"request": request}


def without_answers(answer: dict[str, Any]) -> str:
    """Returns the request that an answer belongs to, as text that is equal for equal requests."""
    return json.dumps({name: value for name, value in answer.items() if name not in ANSWER_FIELDS})


def span_of(request: dict[str, Any]) -> tuple[str, ...]:
    """Returns a key that is equal for requests about the same span of a video."""
    return tuple(repr(request.get(name)) for name in ("video", "start", "end"))


def together(requests: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Joins requests that follow each other and are about the same span of a video, a few at a time."""
    for _, of_span in groupby(requests, span_of):
        while some := list(islice(of_span, REQUESTS_TOGETHER)):
            yield some


def answer_requests(answerer: "Pipeline", requests: Sequence[dict[str, Any]], top_k: int) -> list[dict[str, Any]]:
    r"""
    Answers requests, those about the same span of a video together.

    Args:
        answerer (`Pipeline`): The video-question-answering pipeline.
        requests (`Sequence[dict]`): The requests, see [`parse_line`].
        top_k (`int`): Most answers to a question.

    Returns:
        `list[dict]`: Each request with `answer`, the best, and `answers`, the best with their scores; or with `error`.
    """
    try:
        asked = [_asked(request) for request in requests]
        answers = answerer(asked, top_k=top_k) if len(asked) > 1 else [answerer(asked[0], top_k=top_k)]
    except REFUSED as error:
        if len(requests) > 1:  # one of them is wrong, or their video
            return [answer for request in requests for answer in answer_requests(answerer, [request], top_k)]
        return [requests[0] | {"error": " ".join(str(error).split())}]
    return [_with_answers(*pair) for pair in zip(requests, answers)]


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a request that the pipeline takes."""
    if list(request) == ["request"]:
        raise ValueError(f"A request must be a JSON object on one line; got {request['request']!r:.100}.")
    return {name: value for name, value in request.items() if name != "question_id" and value is not None}


def _with_answers(request: dict[str, Any], answers: list) -> dict[str, Any]:
    several = isinstance(request["question"], list)
    best = [one[0]["answer"] for one in answers] if several else answers[0]["answer"]
    return request | {"answer": best, "answers": answers}


__all__ = ["ANSWER_FIELDS", "answer_requests", "parse_line", "span_of", "together", "without_answers"]
