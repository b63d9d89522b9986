"""Requests of the video-question-answering pipeline: read, checked, put into batches, and answered in their order."""

import math
import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any


FIELDS = ("video", "question", "candidates", "start", "end", "task")


@dataclass(frozen=True)
class VideoQuestionRequest:
    """
    A request that was read: a video, and one or several questions about it.

    Args:
        name (`str`): What an error calls it.
        video: What the caller gave.
        questions (`list[str]`): The questions.
        candidates (`list[list[str] | None]`): The answers to choose from, for each question.
        start (`float`, *optional*): Start of the span asked about, in seconds.
        end (`float`, *optional*): End of the span asked about, in seconds.
        task (`str`, *optional*): The task asked for.
        several (`bool`): Whether the answer is a list with one answer per question.
    """

    name: str
    video: Any
    questions: list[str]
    candidates: list[list[str] | None]
    start: float | None
    end: float | None
    task: str | None
    several: bool


@dataclass(frozen=True)
class Place:
    """The position of an answer: number of the request, and of the question within it."""

    request: int
    question: int
    several: bool


@dataclass
class Questions:
    """Questions that the model answers together: one task, and the same number of candidates."""

    task: str
    texts: list[str] = field(default_factory=list)
    candidates: list[list[str] | None] = field(default_factory=list)
    video_index: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


@dataclass
class RequestBatch:
    """Videos that are decoded in one batch, each once, and all questions about them."""

    videos: list[Any]
    starts: list[float | None]
    ends: list[float | None]
    questions: list[Questions]


def is_video(inputs: Any) -> bool:
    """Returns whether the input is one video, not a collection of requests."""
    single = isinstance(inputs, (str, bytes, bytearray, memoryview, os.PathLike))
    return single or callable(getattr(inputs, "read", None)) or isinstance(getattr(inputs, "ndim", None), int)


def with_encoded_videos(inputs: Any) -> Any:
    """Turns off the decoding of video columns in a data set of `datasets`; the pipeline decodes itself."""
    if type(inputs).__module__.split(".")[0] == "datasets":
        for column, feature in (inputs.features or {}).items():
            if type(feature).__name__ == "Video":
                inputs = inputs.cast_column(column, type(feature)(decode=False))
    return inputs


def each(inputs: Any) -> Iterator[Any]:
    """Iterates over a data set, a generator or another iterable."""
    inputs = with_encoded_videos(inputs)
    if isinstance(inputs, Sized) and callable(getattr(inputs, "__getitem__", None)):
        return (inputs[index] for index in range(len(inputs)))
    if not isinstance(inputs, Iterable):
        raise ValueError(f"Requests are dictionaries, or an iterable of them; got {_shown(inputs)}.")
    if getattr(inputs, "collate_fn", None) is not None and inputs.batch_size is not None:
        raise ValueError(
            "A DataLoader makes batches in which the requests cannot be told apart; give its data set, and the "
            "pipeline's batch_size."
        )
    return iter(inputs)


def as_request(item: Any, defaults: Mapping[str, Any]) -> Any:
    r"""
    Completes a request with the fields that are given for all requests.

    Args:
        item: A request, or a video if the question is given for all requests.
        defaults (`Mapping`): The fields that are given for all requests.
    """
    is_request = isinstance(item, Mapping) and not (item and set(item) <= {"path", "bytes"})
    if is_request:
        return {**defaults, **{name: value for name, value in item.items() if value is not None}}
    return {**defaults, "video": item} if "question" in defaults else item


def read_request(request: Any, number: int | None = None) -> VideoQuestionRequest:
    r"""
    Reads and checks a request, without opening the video.

    Args:
        request (`Mapping`): `video` and `question`, and any of `candidates`, `start`, `end`, `task`.
            A field that is `None` counts as missing.
        number (`int`, *optional*): Its number in a list, from 0, for error messages.

    Returns:
        [`VideoQuestionRequest`]

    Raises:
        `ValueError`: If a field is missing, unknown, or not what it should be.
    """
    name = "The request" if number is None else f"Request {number} (from 0)"
    try:
        return _read(request, name)
    except _RequestError as fault:
        raise ValueError(f"{name} is not right: {fault}.") from None


class _RequestError(Exception):
    """What is wrong with a request."""


def _read(request: Any, name: str) -> VideoQuestionRequest:
    if not isinstance(request, Mapping):
        raise _RequestError(f"it must be a dictionary with a video and a question, not {_shown(request)}")
    unknown = sorted(str(name) for name in set(request) - set(FIELDS))
    missing = [name for name in ("video", "question") if request.get(name) is None]
    if unknown or missing:
        fault = f"has no {' and no '.join(missing)}" if missing else f"has a field {', '.join(unknown)}"
        raise _RequestError(f"it needs a video and a question, and may have {', '.join(FIELDS[2:])}; this one {fault}")
    video, task = request["video"], request.get("task")
    known = is_video(video) or isinstance(video, (dict, list, tuple))
    if not known or getattr(video, "ndim", 4) != 4 or (isinstance(video, str) and not video.strip()):
        raise _RequestError(
            "a video is a path, an http(s) address, bytes, a file object, a dictionary with path and bytes (a column "
            f"of datasets needs decode=False), an array of four dimensions or a list of images, not {_shown(video)}"
        )
    if task is not None and not isinstance(task, str):
        raise _RequestError(f"the task must be a name, not {_shown(task)}")
    start, end = (_seconds(name, _plain(request.get(name))) for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise _RequestError(f"the span ends at {end:g} s, which is not after its start at {start or 0:g} s")
    question = _plain(request["question"])
    several = not isinstance(question, str)
    questions = _texts("question", [question] if isinstance(question, str) else question)
    candidates = _candidates(_plain(request.get("candidates")), questions, several)
    return VideoQuestionRequest(name, video, questions, candidates, start, end, task, several)


def _plain(value: Any) -> Any:
    """Converts arrays and columns to lists."""
    if callable(getattr(value, "tolist", None)):  # NumPy, torch and pandas
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping, set, frozenset)):
        return list(value)
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"


def _texts(what: str, texts: Any) -> list[str]:
    """Checks a list of texts, none of which may be blank."""
    if not isinstance(texts, list):
        raise _RequestError(f"a {what} must be text, or a list of texts, not {_shown(texts)}")
    if not texts:
        raise _RequestError(f"it needs a {what}; this one has an empty list")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            fault = "blank" if isinstance(text, str) else _shown(text)
            advice = f"; write it as text, {str(text)!r}" if _is_number(text) else ""
            raise _RequestError(f"{what} {number} must be text that is not blank; it is {fault}{advice}")
    return [str(text) for text in texts]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value) and not isinstance(value, bool)


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or value < 0:
        raise _RequestError(f"{name} must be a finite number of seconds, 0 or more, not {_shown(value)}")
    return float(value)


def _candidates(candidates: Any, questions: list[str], several: bool) -> list[list[str] | None]:
    """Returns the candidates of each question, given per question or once for all."""
    if candidates is None:
        return [None] * len(questions)
    if not isinstance(candidates, list):
        raise _RequestError(
            f"candidates must be a list of answers, such as ['a cat', 'a dog'], not {_shown(candidates)}"
        )
    choices_of_each = [_plain(choices) for choices in candidates]
    if not several or not any(isinstance(choices, list) for choices in choices_of_each):
        choices_of_each = [choices_of_each] * len(questions)
    if not all(isinstance(choices, list) for choices in choices_of_each):
        raise _RequestError("candidates must be one list of texts, or one such list for each question")
    if len(choices_of_each) != len(questions):
        raise _RequestError(f"it has {len(questions)} questions, but candidates for {len(choices_of_each)}")
    return [_choices(choices) for choices in choices_of_each]


def _choices(choices: list) -> list[str]:
    if len(choices) < 2:
        raise _RequestError(f"a question needs two candidates or more to choose from; got {_shown(choices)}")
    choices = _texts("candidate", choices)
    seen = [choice.strip() for choice in choices]
    for number, choice in enumerate(seen):
        if choice in seen[:number]:
            raise _RequestError(f"candidates must differ; {choice!r} comes twice")
    return choices


def request_batches(
    requests: Iterable[VideoQuestionRequest],
    batch_size: int,
    window: int | None,
    task_of: Callable[[str | None, list[str] | None], str],
) -> Iterator[RequestBatch]:
    r"""
    Groups requests into batches. Requests about the same span of a video share its decoding.

    Args:
        requests (`Iterable`): The requests.
        batch_size (`int`): The maximum number of videos per batch.
        window (`int`, *optional*): Number of requests that are read at a time; all by default.
        task_of (`Callable`): Returns the task of a question from the requested task and the candidates.

    Yields:
        [`RequestBatch`]
    """
    numbered = enumerate(requests)
    while read := list(islice(numbered, window)):
        by_span: dict[tuple, list[tuple[int, VideoQuestionRequest]]] = {}
        for number, request in read:
            for candidates in request.candidates:
                try:  # before a video is decoded
                    task_of(request.task, candidates)
                except ValueError as error:
                    raise ValueError(f"{request.name} is not right: {error}") from None
            by_span.setdefault((_identity(request.video), request.start, request.end), []).append((number, request))
        spans = list(by_span.values())
        for first in range(0, len(spans), batch_size):
            yield _batch(spans[first : first + batch_size], task_of)


def _batch(
    spans: list[list[tuple[int, VideoQuestionRequest]]], task_of: Callable[[str | None, list[str] | None], str]
) -> RequestBatch:
    kinds: dict[tuple[str, int], Questions] = {}
    for index, requests in enumerate(spans):
        for number, request in requests:
            for position, (text, candidates) in enumerate(zip(request.questions, request.candidates)):
                task = task_of(request.task, candidates)
                questions = kinds.setdefault((task, len(candidates or ())), Questions(task))
                questions.texts.append(text)
                questions.candidates.append(candidates)
                questions.video_index.append(index)
                questions.places.append(Place(number, position, request.several))
    first = [requests[0][1] for requests in spans]
    videos = [request.video for request in first]
    return RequestBatch(videos, [one.start for one in first], [one.end for one in first], list(kinds.values()))


def _identity(video: Any) -> Any:
    """Returns a key that is equal for the same path, the same bytes, or the same object."""
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video)
    if isinstance(video, bytes):
        return video
    if isinstance(video, (list, tuple)):
        return tuple(map(_identity, video))
    if isinstance(video, dict):
        return _identity(video.get("path") if video.get("bytes") is None else video["bytes"])
    return id(video)


def answers_in_order(answers: Iterable[list[tuple[Place, Any]]]) -> Iterator[Any]:
    r"""
    Iterates over the answers in the order of the requests, each as soon as it is complete.

    Args:
        answers (`Iterable`): Per batch, the answers with their places.

    Yields:
        The answer of a request, or a list of answers if the request has several questions.
    """
    waiting: dict[int, Any] = {}
    following = 0
    for of_batch in answers:  # a request is about one video, so all its questions are in one batch
        for place, answer in sorted(of_batch, key=lambda pair: (pair[0].request, pair[0].question)):
            if place.several:
                waiting.setdefault(place.request, []).append(answer)
            else:
                waiting[place.request] = answer
        while following in waiting:
            yield waiting.pop(following)
            following += 1


class AnswerStream(Iterator):
    r"""
    Iterates over answers that are computed on demand.

    Args:
        answers (`Iterator`): The answers.
        inputs: The requests, whose length it has.
    """

    def __init__(self, answers: Iterator[Any], inputs: Any):
        self.answers, self.inputs = answers, inputs

    def __next__(self) -> Any:
        return next(self.answers)

    def __len__(self) -> int:
        return len(self.inputs)


__all__ = [
    "FIELDS",
    "AnswerStream",
    "Place",
    "Questions",
    "RequestBatch",
    "VideoQuestionRequest",
    "answers_in_order",
    "as_request",
    "each",
    "is_video",
    "read_request",
    "request_batches",
]
