"""Requests as lines of JSON, and their answers: whatever a line holds, it gets one answer or one error."""

import json
import os
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
    """
    Reads the request on a line, a JSON object. Leaves out its answer or error, so that an answered request is the
    request again. Any other line goes under `request`, so that its answer can name it.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = line
    if not isinstance(request, dict):
        return {"request": request}
    return {name: value for name, value in request.items() if name not in ANSWER_FIELDS}


def span_of(request: dict[str, Any]) -> tuple[str, ...]:
    """Returns a key that is equal for requests about the same span of a video."""
    return tuple(repr(request.get(name)) for name in ("video", "start", "end"))


def together(requests: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Joins requests that follow each other and are about the same span of a video, a few at a time."""
    for _, of_span in groupby(requests, span_of):
        while some := list(islice(of_span, REQUESTS_TOGETHER)):
            yield some


def answer_requests(
    answerer: "Pipeline", requests: Sequence[dict[str, Any]], top_k: int, videos: str | None = None
) -> list[dict[str, Any]]:
    r"""
    Answers requests, those about the same span of a video together.

    Args:
        answerer (`Pipeline`): The video-question-answering pipeline.
        requests (`Sequence[dict]`): The requests, see [`parse_line`].
        top_k (`int`): Most answers to a question.
        videos (`str`, *optional*): The folder that relative paths of videos start from.

    Returns:
        `list[dict]`: Each request with `answer`, the best, and `answers`, the best with their scores; or with `error`.
    """
    try:
        asked = [fields_of(request, videos) for request in requests]
        answers = answerer(asked, top_k=top_k) if len(asked) > 1 else [answerer(asked[0], top_k=top_k)]
    except REFUSED as error:
        if len(requests) > 1:  # one of them is wrong, or their video
            return [answer for request in requests for answer in answer_requests(answerer, [request], top_k, videos)]
        return [requests[0] | {"error": " ".join(str(error).split())}]
    return [_with_answers(*pair) for pair in zip(requests, answers)]


def fields_of(request: dict[str, Any], videos: str | None) -> dict[str, Any]:
    """Returns the fields of a request that the pipeline takes, with the video's path from the folder of videos."""
    if list(request) == ["request"]:
        raise ValueError(f"A request must be a JSON object on one line; got {request['request']!r:.100}.")
    fields = {name: value for name, value in request.items() if name != "question_id" and value is not None}
    if videos is not None and isinstance(fields.get("video"), str) and "://" not in fields["video"]:
        fields["video"] = os.path.join(videos, fields["video"])
    return fields


def _with_answers(request: dict[str, Any], answers: list) -> dict[str, Any]:
    several = isinstance(request["question"], list)
    best = [one[0]["answer"] for one in answers] if several else answers[0]["answer"]
    return request | {"answer": best, "answers": answers}
