"""Requests of the video-question-answering pipeline: read, checked, grouped by video, and answered in their order."""

import math
import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .configuration_siasamrea import did_you_mean


FIELDS = ("video", "question", "candidates", "start", "end", "task")


@dataclass(frozen=True)
class Question:
    """
    A question of a request.

    Args:
        request (`int`): Number of the request, from 0.
        position (`int`): Number of the question within its request, from 0.
        several (`bool`): Whether the request's answer is a list with one answer per question.
        text (`str`): The question.
        candidates (`list[str]`, *optional*): The answers to choose from.
        task (`str`): The task.
        video: What the caller gave.
        start (`float`, *optional*): Start of the span asked about, in seconds.
        end (`float`, *optional*): End of the span asked about, in seconds.
    """

    request: int
    position: int
    several: bool
    text: str
    candidates: list[str] | None
    task: str
    video: Any
    start: float | None
    end: float | None


Batch = list[list[Question]]  # the questions about each of the spans of videos that are decoded together


def is_video(inputs: Any) -> bool:
    """Returns whether the input is one video, not a collection of requests."""
    single = isinstance(inputs, (str, bytes, bytearray, memoryview, os.PathLike))
    is_encoded = isinstance(inputs, Mapping) and bool(inputs) and set(inputs) <= {"path", "bytes"}
    return single or is_encoded or hasattr(inputs, "read") or isinstance(getattr(inputs, "ndim", None), int)


def is_chat(inputs: Any) -> bool:
    """Returns whether the input is one chat: a list of messages, as Transformers' own pipelines take it."""
    turns = inputs if isinstance(inputs, list) else [None]
    return bool(turns) and all(isinstance(turn, Mapping) and "role" in turn for turn in turns)


def each(inputs: Any) -> Iterator[Any]:
    """Iterates over requests. Video columns of `datasets` stay encoded, because the pipeline decodes them itself."""
    if type(inputs).__module__.split(".")[0] == "datasets":
        for column, feature in (inputs.features or {}).items():
            if type(feature).__name__ == "Video":
                inputs = inputs.cast_column(column, type(feature)(decode=False))
    if isinstance(inputs, Sized) and hasattr(inputs, "__getitem__"):  # data sets of torch may not know where they end
        return (inputs[index] for index in range(len(inputs)))
    return iter(inputs)


def read_request(
    request: Any,
    task_of: Callable[[str | None, list[str] | None], str],
    number: int | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> list[Question]:
    r"""
    Reads and checks a request, without opening the video.

    Args:
        request: A `Mapping` with `video` and `question`, or `messages` (a chat) instead of both, and any of
            `candidates`, `start`, `end`, `task`; `None` means missing. Or a chat or a video by itself.
        task_of (`Callable`): Chooses a question's task from the requested task and the candidates.
        number (`int`, *optional*): Number of the request in a list, from 0.
        defaults (`Mapping`, *optional*): Fields for requests that do not give them.

    Returns:
        `list[Question]`

    Raises:
        `ValueError`: If a field is missing, unknown, or not what it should be.
    """
    request = {"messages": request} if is_chat(request) else request
    given = request if isinstance(request, Mapping) and not is_video(request) else {"video": request}
    fields = {**(defaults or {}), **{name: value for name, value in given.items() if value is not None}}
    try:
        if "messages" in fields:
            fields |= _asked(fields.pop("messages"))
        did_you_mean("a request", map(str, fields), FIELDS)
        missing = [name for name in ("video", "question") if fields.get(name) is None]
        if missing:
            raise ValueError(f"it needs a video and a question, and has no {' and no '.join(missing)}")
        video = fields["video"]
        _check_video(video)
        start, end = (_seconds(name, fields.get(name)) for name in ("start", "end"))
        if end is not None and end <= (start or 0):
            raise ValueError(f"the end, {end:g} s, must come after the start, {start or 0:g} s")
        question = _plain(fields["question"])
        several = not isinstance(question, str)
        texts = _texts("question", question if several else [question])
        choices = _candidates(_plain(fields.get("candidates")), len(texts))
        return [
            Question(number or 0, place, several, text, of_one, task_of(fields.get("task"), of_one), video, start, end)
            for place, (text, of_one) in enumerate(zip(texts, choices))
        ]
    except ValueError as error:
        name = "The request" if number is None else f"Request {number} (from 0)"
        raise ValueError(f"{name} is not right: {error}") from None


def _asked(messages: Any) -> dict[str, Any]:
    """Returns the video and the question of a chat."""
    turns = [turn.get("content") for turn in messages if turn["role"] != "system"] if is_chat(messages) else []
    match turns:
        case [[{"type": "video", **source}, {"type": "text", "text": text}]]:
            video = [source[key] for key in ("video", "path", "url") if source.get(key) is not None]
            return {"video": video[0] if video else None, "question": text}
    raise ValueError("messages must be one turn, whose content is a part of type video and then one of type text")


def _check_video(video: Any) -> None:
    known = is_video(video) or isinstance(video, (list, tuple))
    if not known or getattr(video, "ndim", 4) != 4 or (isinstance(video, str) and not video.strip()):
        raise ValueError(
            f"a video is a path, an address, bytes, a file, images or an array of 4 dimensions, not {_shown(video)}"
        )


def _plain(value: Any) -> Any:
    """Converts scalars, arrays and columns to those of Python."""
    if callable(getattr(value, "tolist", None)):  # NumPy, torch and pandas
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping, set, frozenset)):
        return list(value)
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__} {list(getattr(value, 'shape', '')) or ''}".rstrip()


def _seconds(name: str, value: Any) -> float | None:
    value = _plain(value)
    if value is None:
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0:
        raise ValueError(f"{name} must be a finite number of seconds, 0 or more, not {_shown(value)}")
    return float(value)


def _texts(what: str, texts: Any) -> list[str]:
    """Checks a list of texts, none of which may be blank."""
    if not isinstance(texts, list) or not texts:
        raise ValueError(f"a {what} must be text, or a list of texts, not {_shown(texts)}")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{what} {number} must be text that is not blank, not {_shown(text)}")
    return [str(text) for text in texts]


def _candidates(candidates: Any, questions: int) -> list[list[str] | None]:
    """Returns the candidates of each question, given per question or once for all."""
    if candidates is None:
        return [None] * questions
    choices = [_plain(one) for one in candidates] if isinstance(candidates, list) else [candidates]
    if not any(isinstance(one, list) for one in choices):
        choices = [_plain(candidates)] * questions
    if len(choices) != questions:
        raise ValueError(
            f"each question must have its candidates; questions: {questions}, lists of candidates: {len(choices)}"
        )
    for of_one in choices:
        if not isinstance(of_one, list) or len(of_one) < 2:
            raise ValueError(f"candidates must be a list of two or more answers, not {_shown(of_one)}")
        if len({text.strip() for text in _texts("candidate", of_one)}) < len(of_one):
            raise ValueError(f"candidates must differ, and do not in {_shown(of_one)}")
    return [_texts("candidate", of_one) for of_one in choices]


def request_batches(requests: Iterable[list[Question]], batch_size: int, window: int | None) -> Iterator[Batch]:
    r"""
    Groups requests into batches. Requests about the same span of a video share its decoding.

    Args:
        requests (`Iterable`): The requests, see [`read_request`].
        batch_size (`int`): Most videos per batch.
        window (`int`, *optional*): Requests that are read at a time. Default: all.

    Yields:
        `list[list[Question]]`: The questions about each span of a video.
    """
    requests = iter(requests)
    while read := list(islice(requests, window)):
        by_span: dict[tuple, list[Question]] = {}
        for questions in read:
            key = _identity(questions[0].video), questions[0].start, questions[0].end
            by_span.setdefault(key, []).extend(questions)
        spans = list(by_span.values())
        yield from (spans[first : first + batch_size] for first in range(0, len(spans), batch_size))


def _identity(video: Any) -> Any:
    """Returns a key that is equal for the same path, the same bytes, or the same object."""
    if isinstance(video, (str, bytes, os.PathLike)):
        return os.fspath(video)
    if isinstance(video, (list, tuple)):
        return tuple(map(_identity, video))
    if isinstance(video, dict):
        return _identity(video.get("path") if video.get("bytes") is None else video["bytes"])
    return id(video)


def answers_in_order(answered: Iterable[list[tuple[Question, Any]]]) -> Iterator[Any]:
    r"""
    Yields answers in the order of the requests, each as soon as it is complete.

    Args:
        answered (`Iterable`): The questions of each batch with their answers.

    Yields:
        The answer to a request, or a list of answers if it has several questions.
    """
    waiting: dict[int, Any] = {}
    following = 0
    for of_batch in answered:  # a request is about one video, so all its questions are in one batch
        for question, answer in sorted(of_batch, key=lambda pair: (pair[0].request, pair[0].position)):
            if question.several:
                waiting.setdefault(question.request, []).append(answer)
            else:
                waiting[question.request] = answer
        while following in waiting:
            yield waiting.pop(following)
            following += 1
