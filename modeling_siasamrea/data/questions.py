"""Annotation rows of video question answering: reads each row of a file or data set and checks its cells."""

import contextlib
import dataclasses
import hashlib
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from ..configuration_siasamrea import TASKS, did_you_mean
from ..processors.video_source import absolute_path
from .conversations import is_conversation, options_of, rows_of_conversation, split_options
from .tables import parse_json, read_jsonl, rows_of


logger = logging.get_logger(__name__)

LARGEST_NUMBER = 1_000_000  # a count's square is far from the end of float32
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, slots=True)
class VideoQuestion:
    """
    One annotation row.

    Args:
        video (`str`): Path or address of the video; its name if it came as bytes.
        question (`str`): The question.
        answer (`str`, `int` or `float`, *optional*):
            The answer's text (`"open_ended"`), the index of the right candidate (`"multiple_choice"`) or the number
            (`"count"`). `None` where it is not known, as prediction and the siamese loss accept.
        task (`str`): `"open_ended"`, `"multiple_choice"` or `"count"`.
        question_id (`str`): Names the row; unique within its file.
        candidates (`tuple[str, ...]`, *optional*): The answers to choose from, for multiple choice.
        start (`float`, *optional*): Where the part of the video that is asked about starts, in seconds.
        end (`float`, *optional*): Where it ends, in seconds.
        question_type (`str`, *optional*): A kind of question whose accuracy is reported on its own.
        other_answers (`tuple[str, ...]`, *optional*): Answers to an open-ended question that are right as well.
        video_bytes (`bytes`, *optional*): The video's file itself, where the data set holds it.
        evidence (`tuple[tuple[float, float], ...]`, *optional*):
            Parts of the video that show the answer, each its start and end in seconds.
        count_range (`tuple[int, int]`, *optional*):
            The least and largest count of a benchmark that clips counts, see
            [`~modeling_siasamrea.evaluation.scores.round_count`].
    """

    video: str
    question: str
    answer: str | int | float | None
    task: str
    question_id: str
    candidates: tuple[str, ...] | None = None
    start: float | None = None
    end: float | None = None
    question_type: str | None = None
    other_answers: tuple[str, ...] = ()
    video_bytes: bytes | None = dataclasses.field(default=None, repr=False)
    evidence: tuple[tuple[float, float], ...] = ()
    count_range: tuple[int, int] | None = None

    @property
    def right_answers(self) -> tuple[str | int | float, ...]:
        """All right answers; empty where none is known."""
        return () if self.answer is None else (self.answer, *self.other_answers)

    @property
    def video_source(self) -> str | dict[str, str | bytes]:
        """The source that a decoder takes: the path or address, or the bytes with their name."""
        return self.video if self.video_bytes is None else {"path": self.video, "bytes": self.video_bytes}

    @property
    def kind(self) -> tuple[str, int]:
        """The task and the number of candidates, which the questions of a batch have in common."""
        return self.task, len(self.candidates or ())

    @property
    def video_group(self) -> tuple:
        """The kind and the part of the video, which questions that share frames have in common."""
        return self.kind, self.video, self.video_bytes, self.start, self.end


COLUMNS = {field.name for field in dataclasses.fields(VideoQuestion)} - {"other_answers", "video_bytes"}
COLUMNS.add("as_published")

# Cells


def _plain(value: Any) -> Any:
    """Turns a NumPy value, as pandas and `datasets` give, into Python's own; a text that shows nothing into `None`."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    blank = isinstance(value, str) and not any(char.isprintable() and char != " " for char in value)
    return None if blank else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value and abs(value) != math.inf


def text_cell(value: Any, name: str, where: str) -> str | None:
    r"""
    Reads a cell that holds a text.

    Args:
        value: A text, or a number, which is read as its digits (3 and 3.0 as "3").
        name (`str`): The column.
        where (`str`): The row, for errors.

    Returns:
        `str`, *optional*: the text without white space around it, in composed Unicode (NFC), so that texts that look
        equal are equal; `None` if the cell is empty or blank.

    Raises:
        `ValueError`: If it holds anything else: true, NaN, a list.
    """
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, str) and (value.isascii() or not SURROGATES.search(value)):
        return unicodedata.normalize("NFC", value.strip())
    if _is_number(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else str(value)
    raise ValueError(f"{where}: {name} must be a text in valid Unicode or a finite number; got {value!r:.100}.")


def number_cell(value: Any, name: str, where: str) -> float | None:
    """Reads a cell that holds a number from 0 to a million, also as text; `None` if it is empty or blank."""
    value = _plain(value)
    if value is None:
        return None
    number = math.nan
    if _is_number(value) or (isinstance(value, str) and "_" not in value):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 <= number <= LARGEST_NUMBER:
        raise ValueError(f"{where}: {name} must be a number from 0 to a million; got {value!r:.100}.")
    return number


def _list_in(value: Any) -> Any:
    """Reads the JSON list that a text holds, as CSV cells do; returns any other value unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            return parse_json(value, "")
    return value


def text_cells(value: Any, name: str, where: str) -> list[str]:
    """Reads a cell that holds a text or a list of texts (in CSV as JSON); an empty cell is an empty list."""
    value = _plain(value)
    given = _list_in(value)
    if given is value and isinstance(value, str) and re.fullmatch(r"\s*\[\s*(['\"]).*\1\s*\]\s*", value, re.DOTALL):
        raise ValueError(f'{where}: {name} must be a text or a JSON list such as ["a", "b"]; got {value!r:.100}.')
    if not isinstance(given, list | tuple) or (isinstance(value, str) and not all(isinstance(t, str) for t in given)):
        given = [] if value is None else [value]  # a text in brackets that is not a list of texts is a text
    texts = [text_cell(text, name, where) for text in given]
    if None in texts:
        raise ValueError(f"{where}: {name} must not have an empty text; got {value!r:.100}.")
    return texts


def _as_published(row: Mapping) -> bool:
    return str(row.get("as_published")).lower() == "true"  # in CSV too


def _candidates(row: Mapping, where: str) -> tuple[str, ...] | None:
    value = _plain(row.get("candidates"))
    if value is None:
        return None
    given = _list_in(value)
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise ValueError(f'{where}: candidates must be two or more texts such as ["a", "b"]; got {value!r:.100}.')
    candidates = [text_cell(candidate, f"candidate {place}", where) for place, candidate in enumerate(given)]
    if _as_published(row):
        return tuple(candidate or "" for candidate in candidates)
    if None in candidates:
        raise ValueError(f"{where}: candidate {candidates.index(None)} is empty (the first is candidate 0).")
    if len(set(candidates)) < len(candidates):
        raise ValueError(f"{where}: candidates must differ; got {candidates!r:.100}.")
    return tuple(candidates)


def _whole_number(answer: Any) -> int | None:
    return int(answer) if _is_number(answer) and answer == int(answer) else None


def _with_number(row: Mapping) -> Mapping:
    """Reads the answer of a CSV row, which knows texts only, as a number if it has nothing but digits."""
    answer = row.get("answer")
    is_number = answer is not None and re.fullmatch(r"\s*(0|[1-9]\d{0,9})(\.0)?\s*", answer)
    return {**row, "answer": int(float(answer))} if is_number else row


def _candidate_index(answer: Any, candidates: tuple[str, ...], where: str) -> int:
    """
    Finds the right candidate. A number is its index, or (where it is too large for one) the candidate that reads so; a
    text is the candidate that reads so, or else an index.
    """
    number = _whole_number(answer)
    if number is not None and 0 <= number < len(candidates):
        return number
    text = text_cell(answer, "answer", where) if number is None else str(number)
    if text in candidates:
        return candidates.index(text)
    if text.isdecimal() and len(text) < 10 and int(text) < len(candidates):
        return int(text)
    raise ValueError(
        f"{where}: answer must be one of the candidates {list(candidates)!r:.100} or the index of one, from 0 to "
        f"{len(candidates) - 1}; got {answer!r:.100}."
    )


def _answers(row: Mapping, task: str, candidates: tuple[str, ...] | None, where: str) -> tuple[str | int | float, ...]:
    answer = _plain(row.get("answer"))
    if answer is None:
        return ()
    if task == "open_ended":
        return tuple(dict.fromkeys(text_cells(answer, "answer", where)))
    if isinstance(answer, list | tuple):
        raise ValueError(f"{where}: answer must be one value, because its task is {task}; got {answer!r:.100}.")
    if task == "count":
        return (number_cell(answer, "answer", where),)
    return (_candidate_index(answer, candidates, where),)


def _video(value: Any, where: str, folder: Path | None) -> tuple[str, bytes | None]:
    """Reads a video's path or name, and its file where the row holds it: as bytes, or as `datasets` gives videos."""
    data = None
    if isinstance(value, Mapping) and {"path", "bytes"} & set(value):
        value, data = value.get("path"), value.get("bytes")
    elif isinstance(value, bytes | bytearray):
        value, data = None, bytes(value)
    if data:
        return str(value or f"bytes-{hashlib.blake2b(data, digest_size=8).hexdigest()}"), data
    value = os.fspath(value) if isinstance(value, os.PathLike) else _plain(value)
    if isinstance(value, list | tuple):
        raise ValueError(f"{where}: video must be one file; got a list of {len(value)}. Make a video of frames.")
    text = text_cell(value, "video", where)
    if text is None:
        raise ValueError(f"{where}: video is empty.")
    video = value if isinstance(value, str) else text  # as it is: a file's name may have spaces or be decomposed
    # An absolute path stays as it is.
    return (str(folder / video) if folder is not None and "://" not in video else video), None


def _span(start: Any, end: Any, where: str) -> tuple[float | None, float | None]:
    start, end = number_cell(start, "start", where), number_cell(end, "end", where)
    if end is not None and end <= (start or 0):
        raise ValueError(f"{where}: end must be after start; got start={start} and end={end} seconds.")
    return start, end


def _evidence(row: Mapping, where: str) -> tuple[tuple[float, float], ...]:
    spans = _list_in(_plain(row.get("evidence"))) or ()
    if not isinstance(spans, list | tuple) or any(not isinstance(s, list | tuple) or len(s) != 2 for s in spans):
        raise ValueError(f"{where}: evidence must be a list of [start, end] in seconds; got {spans!r:.100}.")
    return tuple(_span(*span, f"{where}, evidence") for span in spans)


# Rows


def _check_columns(columns: Collection[str], required: Iterable[str], where: str) -> None:
    """Raises a `ValueError` if columns are missing, misspelt, or those of another kind of file."""
    if {"prediction", "question_id", "task"} <= set(columns):
        raise ValueError(f"{where}: this is a predictions file; give the rows that were answered instead.")
    wanted = [*required, "candidates"] if "a0" in columns else required  # a0, a1, ... are NExT-QA's and How2QA's
    missing = [name for name in wanted if name not in columns]
    if missing:
        did_you_mean(
            f"{where}: the row", missing[:1], [str(name) for name in columns if name not in COLUMNS], cutoff=0.6
        )
        there = ", ".join(map(str, columns))
        hint = "A caption needs a question." if "caption" in there else "--benchmarks reads the files of benchmarks."
        raise ValueError(f"{where}: the column {missing[0]} is missing; there are {there}. {hint}")
    others = (str(name) for name in columns if name not in COLUMNS)
    did_you_mean(
        f"{where}: the list of columns", others, [name for name in COLUMNS if name not in columns], cutoff=0.75
    )


def _video_question(
    row: Mapping, where: str, task: str | None, number: int, video_folder: Path | None, kept_once: Callable[[Any], Any]
) -> VideoQuestion:
    """Reads a row; `kept_once` returns the first of equal values, so that each is in memory once."""
    video, video_bytes = _video(row.get("video"), where, video_folder)
    question = text_cell(row.get("question"), "question", where)
    if question is None:
        raise ValueError(f"{where}: question is empty.")
    candidates = _candidates(row, where)
    task = text_cell(row.get("task"), "task", where) or task or ("multiple_choice" if candidates else "open_ended")
    if task not in TASKS:
        raise ValueError(f"{where}: task must be one of {', '.join(TASKS)}; got {task!r}.")
    if (task == "multiple_choice") != (candidates is not None):
        given = "none" if candidates is None else len(candidates)
        raise ValueError(f"{where}: candidates belong to the task multiple_choice alone; got {given} for {task}.")
    start, end = _span(row.get("start"), row.get("end"), where)
    answers = _answers(row, task, candidates, where)
    count_range = _list_in(_plain(row.get("count_range")))
    if count_range is not None and not (isinstance(count_range, list | tuple) and len(count_range) == 2):
        raise ValueError(f"{where}: count_range must be [least, largest]; got {count_range!r:.100}.")
    answer = answers[0] if answers else None
    return VideoQuestion(
        video=kept_once(video),
        question=kept_once(question),
        answer=kept_once(answer) if isinstance(answer, str) else answer,  # 1.0 must not stand for the index 1
        task=task,
        question_id=text_cell(row.get("question_id"), "question_id", where) or str(number - 1),
        candidates=kept_once(candidates),
        start=start,
        end=end,
        question_type=kept_once(text_cell(row.get("question_type"), "question_type", where)),
        other_answers=answers[1:],
        video_bytes=kept_once(video_bytes),
        evidence=_evidence(row, where),
        count_range=None if count_range is None else tuple(count_range),
    )


def _reading_of_number(row: Mapping, question: VideoQuestion, task: str | None) -> str | None:
    """Says how an answer was read that is a number and could be meant otherwise: as a text or as an index."""
    answer = _whole_number(_plain(row.get("answer")))
    if answer is None or _as_published(row):
        return None
    if question.candidates is None:
        return "open-ended" if question.task == "open_ended" and not task and _plain(row.get("task")) is None else None
    if answer != question.answer:
        return "text"
    return "index" if str(answer) in question.candidates and question.candidates[answer] != str(answer) else None


# How rows were read that could be meant otherwise, and what their user may want to do.
TOLD = {
    "index": ("rows whose answer is an index and another candidate's text", "They are read as indices, from 0."),
    "open-ended": (
        "rows without a task whose answer is a number",
        'It is read as a text; numbers need the task "count".',
    ),
    "options": ("rows with options in their question", "--options_in_question makes candidates of them."),
    "follow-ups": ("conversations with several questions", "Each is asked alone: leave out those that need others."),
}


def _tell_readings(readings: dict[str | None, list[int]], name: str) -> None:
    """Warns of rows whose answer could be meant otherwise; raises a `ValueError` if it was read in both ways."""
    unclear = readings["index"]
    if unclear and readings["text"]:
        raise ValueError(
            f"{name}: the answer of row {unclear[0]} is an index and also the text of another candidate, and that of "
            f"row {readings['text'][0]} can only be a text; write all answers as indices from 0, or in JSON all as "
            "texts in quotation marks."
        )
    for reading, (what, note) in TOLD.items():
        if rows := readings[reading]:
            logger.warning(f"{name}: {what}: {len(rows)}, first row {rows[0]}. {note}")


def load_video_questions(
    source: str | Path | Iterable,
    video_folder: str | Path | None = None,
    split: str = "train",
    task: str | None = None,
    require_answers: bool = True,
    options_in_question: bool = False,
    refused: list[str] | None = None,
) -> list[VideoQuestion]:
    r"""
    Reads annotation rows and checks them.

    Columns: `video`, `question`, `answer`, and optionally `candidates`, `task`, `start`, `end` (seconds), `evidence`
    (a list of `[start, end]` in seconds), `question_type` and `question_id` (the row's number when absent). Other
    columns are ignored, but a name that looks like a misspelt one is refused. A blank cell is empty. Lists are JSON
    lists in CSV.

    - `video` is a path, an address, the file's bytes, or `{"path", "bytes"}`, as `datasets` has its videos.
    - `answer` of an open-ended question is a text, or a list of texts that are all right; a number is read as its
      digits. The answer of a count is a number from 0 to a million.
    - `answer` of a multiple-choice question is a candidate's text or its index, from 0. A number is the index, in
      CSV as in JSON; a text in quotation marks in JSON is first of all a text.
    - `candidates` differ from each other; a benchmark that its authors publish otherwise has `as_published` true.

    Instead of these columns a row may be a conversation, as tools for video-language models write it:
    each of its questions becomes a row, see
    [`~modeling_siasamrea.data.conversations.rows_of_conversation`].

    Args:
        source (`str`, `Path` or rows):
            A `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file, the name or folder of a data set for
            `datasets.load_dataset`, a data set of `datasets` or its splits, a pandas `DataFrame`, or any iterable of
            rows as dictionaries. Text is UTF-8.
        video_folder (`str` or `Path`, *optional*): The folder that relative video paths start from.
        split (`str`, *optional*, defaults to `"train"`): Split of a data set that has several.
        task (`str`, *optional*):
            The task of rows that name none. By default rows with candidates are multiple choice, others open-ended.
        require_answers (`bool`, *optional*, defaults to `True`):
            Whether a row without an answer is an error. Prediction needs none, and the siamese loss neither.
        options_in_question (`bool`, *optional*, defaults to `False`):
            Whether options that stand in a question ("A. red B. blue") become its candidates.
        refused (`list[str]`, *optional*):
            Gets a sentence for each conversation that makes no rows, for example about several videos, which are then
            left out. By default such a conversation is an error.

    Returns:
        `list[VideoQuestion]`: one for each question, in order; no other row is dropped.

    Raises:
        `ValueError`: If the source is empty, a column is missing or a row makes no sense; says which and why.
    """
    named = isinstance(source, str | Path)
    name = str(source) if named else "The rows"
    from_csv = named and Path(source).suffix.lower() in (".csv", ".tsv")
    folder = None if video_folder is None else Path(video_folder)
    required = ("video", "question", "answer") if require_answers else ("video", "question")
    readings: dict[str | None, list[int]] = defaultdict(list)
    shared: dict[Any, Any] = {}
    checked, seen, questions = set(), {}, []
    for number, row in enumerate(rows_of(source, split), start=1):
        where, of_row = f"{name}, row {number}", [_with_number(row) if from_csv else row]
        in_turns = is_conversation(row)
        if in_turns:
            try:
                of_row = rows_of_conversation(row, where)
            except ValueError as error:
                if refused is None:
                    raise
                refused.append(str(error))
                continue
            readings["follow-ups"] += [number] * (len(of_row) > 1)
        elif (columns := tuple(row)) not in checked:
            _check_columns(columns, required, where)
            checked.add(columns)
        for one in of_row:
            one = split_options(one, where) if options_in_question else one
            question = _video_question(one, where, task, number, folder, lambda value: shared.setdefault(value, value))
            if require_answers and question.answer is None:
                raise ValueError(f"{where}: answer is empty.")
            if question.question_id in seen and in_turns:  # the id of a conversation is often its video's
                question = dataclasses.replace(question, question_id=f"{question.question_id} (row {number})")
            if question.question_id in seen:
                raise ValueError(
                    f"{where}: question_id must name one row; {question.question_id!r} is that of row "
                    f"{seen[question.question_id]} too."
                )
            seen[question.question_id] = number
            readings[_reading_of_number(one, question, task)].append(number)
            if question.task == "open_ended" and not options_in_question and options_of(question.question):
                readings["options"].append(number)
            questions.append(question)
    if not questions:
        raise ValueError(refused[0] if refused else f"{name}: there are no rows; a file needs one row per question.")
    _tell_readings(readings, name)
    return questions


def read_skip_list(path: str | Path, video_folder: str | Path | None = None) -> set[str]:
    r"""
    Reads the absolute paths of the videos that a skip list names in its column `video`.

    Args:
        path (`str` or `Path`):
            The `skip_list.jsonl` of `siasamrea check` or any file of rows, whose paths start from the video folder; or
            a run's `skipped_videos.jsonl` (also if its last line was cut), whose rows have a `question_id` and paths
            as the run loaded them.
        video_folder (`str` or `Path`, *optional*): The folder that relative video paths start from.

    Raises:
        `ValueError`: If there is no such file, or a row names no video.
    """
    path, folder = Path(path), None if video_folder is None else Path(video_folder)
    rows = read_jsonl(path, unfinished_end=True) if path.suffix.lower() == ".jsonl" else rows_of(path)
    videos = set()
    for number, row in enumerate(rows, start=1):
        video, _ = _video(row.get("video"), f"{path}, row {number}", None if "question_id" in row else folder)
        videos.add(absolute_path(video))
    return videos
