"""Annotation rows of video question answering: every row of a file or data set, checked cell by cell."""

import dataclasses
import difflib
import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.utils import logging

from ..configuration_siasamrea import TASKS
from .tables import parse_json, read_jsonl, read_table, rows_of


if TYPE_CHECKING:
    import datasets
    import pandas

logger = logging.get_logger(__name__)

COLUMNS = (
    *("video", "question", "answer", "candidates", "task", "start", "end"),
    *("question_type", "question_id", "as_published"),
)
LARGEST_COUNT = 1_000_000  # its square is far from the end of float32
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"  # characters that show nothing, beside white space


@dataclasses.dataclass(frozen=True)
class VideoQuestion:
    """
    One annotation row.

    Args:
        video (`str`): Path or address of the video; of one that came as bytes, its name.
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

    @property
    def right_answers(self) -> tuple[str | int | float, ...]:
        """All right answers; empty where none is known."""
        return () if self.answer is None else (self.answer, *self.other_answers)

    @property
    def video_source(self) -> str | dict[str, str | bytes]:
        """What a decoder takes: the path or address, or the bytes with their name."""
        return self.video if self.video_bytes is None else {"path": self.video, "bytes": self.video_bytes}

    @property
    def kind(self) -> tuple[str, int]:
        """What questions must have in common to share a batch: the task and the number of candidates."""
        return self.task, len(self.candidates or ())

    @property
    def video_group(self) -> tuple:
        """What questions must have in common to share frames: the kind and the part of the video."""
        return self.kind, self.video, self.video_bytes, self.start, self.end


# Cells


def is_blank(text: str) -> bool:
    """Whether a text shows nothing."""
    return not text.strip().strip(INVISIBLE)


def _plain(value: Any) -> Any:
    """A numpy value, as pandas and `datasets` give, as Python's own."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _is_finite(value: Real) -> bool:
    """Whether a number is one; of any size, unlike `math.isfinite`."""
    return value == value and abs(value) != math.inf


def text_cell(value: Any, name: str, where: str) -> str | None:
    r"""
    A cell that holds a text.

    Args:
        value: What the row has: a text, or a number, which is read as its digits (3 and 3.0 as "3").
        name (`str`): The column.
        where (`str`): The row, for errors.

    Returns:
        `str`, *optional*: the text without white space around it; `None` if the cell is empty or blank.

    Raises:
        `ValueError`: If it holds anything else: true, NaN, a list.
    """
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, str):
        if re.search("[\ud800-\udfff]", value):
            raise ValueError(f"{where}: {name} has half of a character (a lone surrogate): {_shown(value)}.")
        return None if is_blank(value) else value.strip()
    if isinstance(value, Real) and not isinstance(value, bool):
        if not _is_finite(value):
            raise ValueError(f"{where}: {name} is {value}. Write a text, or leave the cell empty (null).")
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else str(value)
    raise ValueError(f"{where}: {name} must be a text or a number; got the {type(value).__name__} {_shown(value)}.")


def number_cell(value: Any, name: str, where: str, unit: str, largest: float = math.inf) -> float | None:
    """A cell that holds a number from 0 to `largest`, also as text; `None` if it is empty or blank."""
    value = _plain(value)
    if value is None or (isinstance(value, str) and is_blank(value)):
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, str | Real) or "_" in str(value):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{where}: {name} must be {unit}; got {_shown(value)}.") from None
    if not math.isfinite(number):
        raise ValueError(f"{where}: {name} must be {unit}; it is {number}. Leave the cell empty (null) for none.")
    if not 0 <= number <= largest:
        limit = "0 or more" if largest == math.inf else f"from 0 to {largest}"
        raise ValueError(f"{where}: {name} must be {unit}, {limit}; got {_shown(value)}.")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."


def _list_in(text: str) -> list | None:
    """The list that a text is in JSON, as CSV cells hold it; `None` if it is a text like others."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = parse_json(text, "")
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _as_published(row: Mapping) -> bool:
    return str(row.get("as_published")).lower() == "true"  # in CSV too


def text_cells(value: Any, name: str, where: str) -> list[str]:
    """The texts of a cell that holds one or a list of them, in JSON where it is CSV's; empty if the cell is."""
    value = _plain(value)
    given = _list_in(value) if isinstance(value, str) else value
    if isinstance(value, str) and given is None and re.fullmatch(r"\s*\[\s*(['\"]).*\1\s*\]\s*", value, re.DOTALL):
        raise ValueError(
            f'{where}: a list of texts is written in JSON, such as ["a", "b"]; {name} is {_shown(value)}.'
        )
    if not isinstance(given, list | tuple) or (isinstance(value, str) and not all(isinstance(t, str) for t in given)):
        given = [] if text_cell(value, name, where) is None else [value]
    texts = [text_cell(text, name, where) for text in given]
    if None in texts:
        raise ValueError(f"{where}: {name} has an empty text among {_shown(value)}.")
    return texts


def _candidates(row: Mapping, where: str) -> tuple[str, ...] | None:
    value = _plain(row.get("candidates"))
    if value is None or (isinstance(value, str) and is_blank(value)):
        return None
    given = _list_in(value) if isinstance(value, str) else value
    if isinstance(value, str) and given is None:
        raise ValueError(f'{where}: candidates must be a JSON list such as ["a", "b"]; got {_shown(value)}.')
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise ValueError(f"{where}: candidates must be a list of two or more answers; got {_shown(value)}.")
    candidates = [text_cell(candidate, f"candidate {place}", where) for place, candidate in enumerate(given)]
    if _as_published(row):
        return tuple(candidate or "" for candidate in candidates)
    if None in candidates:
        raise ValueError(f"{where}: candidate {candidates.index(None)} is empty; the first is candidate 0.")
    twice = [candidate for candidate in candidates if candidates.count(candidate) > 1]
    if twice:
        raise ValueError(f"{where}: the candidate {twice[0]!r} is there twice, so no answer can tell them apart.")
    return tuple(candidates)


def _as_number(answer: Any, from_csv: bool) -> int | None:
    """The whole number that an answer is; in CSV, which knows texts only, a cell of nothing but digits is one."""
    if from_csv and isinstance(answer, str) and re.fullmatch(r"\s*(0|[1-9]\d{0,9})(\.0)?\s*", answer):
        return int(float(answer))
    whole = isinstance(answer, Real) and not isinstance(answer, bool) and _is_finite(answer)
    return int(answer) if whole and answer == int(answer) else None


def _candidate_index(answer: Any, candidates: tuple[str, ...], from_csv: bool, where: str) -> int:
    """
    The right candidate's index. A number is the index, or (where it is too large for one) the candidate that reads so;
    a text is the candidate that reads so, or else an index.
    """
    number = _as_number(answer, from_csv)
    if number is not None and 0 <= number < len(candidates):
        return number
    text = text_cell(answer, "answer", where) if number is None else str(number)
    if text in candidates:
        return candidates.index(text)
    if text.isdecimal() and len(text) < 10 and int(text) < len(candidates):
        return int(text)
    raise ValueError(
        f"{where}: the answer {_shown(answer)} is neither one of the candidates {list(candidates)} nor the index of "
        f"one, from 0 to {len(candidates) - 1}."
    )


def _answers(
    row: Mapping, task: str, candidates: tuple[str, ...] | None, from_csv: bool, where: str
) -> tuple[str | int | float, ...]:
    answer = _plain(row.get("answer"))
    if answer is None or (isinstance(answer, str) and is_blank(answer)):
        return ()
    if task == "open_ended":
        return tuple(dict.fromkeys(text_cells(answer, "answer", where)))
    if isinstance(answer, list | tuple):
        raise ValueError(f"{where}: only open-ended questions have several right answers; got {_shown(answer)}.")
    if task == "count":
        return (number_cell(answer, "answer", where, "a number", LARGEST_COUNT),)
    return (_candidate_index(answer, candidates, from_csv, where),)


def _video(value: Any, where: str, folder: Path | None) -> tuple[str, bytes | None]:
    """A video's path or name, and its file where the row holds it: as bytes, or as `datasets` gives its videos."""
    data = None
    if isinstance(value, Mapping) and {"path", "bytes"} & set(value):
        value, data = value.get("path"), value.get("bytes")
    elif isinstance(value, bytes | bytearray):
        value, data = None, bytes(value)
    if data:
        return str(value or f"bytes-{hashlib.blake2b(data, digest_size=8).hexdigest()}"), data
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if text_cell(value, "video", where) is None:
        raise ValueError(f"{where}: video is empty.")
    video = value if isinstance(value, str) else text_cell(value, "video", where)
    # An absolute path stays as it is.
    return (str(folder / video) if folder is not None and "://" not in video else video), None


# Rows


def _check_columns(row: Mapping, where: str) -> None:
    """Raises a `ValueError` if the row has a column that looks like a misspelt one that it lacks."""
    absent = [name for name in COLUMNS if name not in row]
    for name in row:
        likeness = str(name).strip().lower().replace(" ", "_").replace("-", "_")
        nearest = difflib.get_close_matches(likeness, absent, n=1, cutoff=0.8) if name not in COLUMNS else []
        if nearest:
            raise ValueError(
                f"{where}: there is a column {name!r} but none named {nearest[0]!r}. Give it that name if that "
                "is what it holds, or else one that cannot be taken for it."
            )


def _video_question(
    row: Mapping, where: str, task: str | None, number: int, video_folder: Path | None, from_csv: bool
) -> VideoQuestion:
    video, video_bytes = _video(row.get("video"), where, video_folder)
    question = text_cell(row.get("question"), "question", where)
    if question is None:
        raise ValueError(f"{where}: question is empty.")
    candidates = _candidates(row, where)
    task = text_cell(row.get("task"), "task", where) or task or ("multiple_choice" if candidates else "open_ended")
    if task not in TASKS:
        raise ValueError(f"{where}: task must be one of {list(TASKS)}; got {task!r}.")
    if (task == "multiple_choice") != (candidates is not None):
        raise ValueError(
            f"{where}: the task is {task!r}, but it has {'no ' if candidates is None else ''}candidates. "
            "Multiple-choice rows have candidates, the others have none."
        )
    start, end = (number_cell(row.get(name), name, where, "a time in seconds") for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise ValueError(f"{where}: end must be after start; got start={start} and end={end} seconds.")
    answers = _answers(row, task, candidates, from_csv, where)
    return VideoQuestion(
        video=video,
        question=question,
        answer=answers[0] if answers else None,
        task=task,
        question_id=text_cell(row.get("question_id"), "question_id", where) or str(number - 1),
        candidates=candidates,
        start=start,
        end=end,
        question_type=text_cell(row.get("question_type"), "question_type", where),
        other_answers=answers[1:],
        video_bytes=video_bytes,
    )


def _check_ids(questions: list[VideoQuestion], name: str) -> None:
    seen: set[str] = set()
    for question in questions:
        if question.question_id in seen:
            raise ValueError(f"{name}: the question_id {question.question_id!r} is there twice; it must name one row.")
        seen.add(question.question_id)


def _check_indices(rows: list[Mapping], questions: list[VideoQuestion], name: str, from_csv: bool) -> None:
    """
    Numbers as answers, where candidates are numbers too: a `ValueError` if some can only be texts while others would
    be read as indices, a warning if all are read as indices although some are another candidate's text.
    """
    unclear, texts = [], []
    for place, (row, question) in enumerate(zip(rows, questions), start=1):
        number = (
            _as_number(_plain(row.get("answer")), from_csv) if question.candidates and not _as_published(row) else None
        )
        if number is not None and number != question.answer:
            texts.append(place)
        elif number is not None and str(number) in set(question.candidates) - {question.candidates[number]}:
            unclear.append(place)
    if not unclear:
        return
    row = rows[unclear[0] - 1]
    said = f"the answer {row['answer']} of row {unclear[0]} is an index and also the text of another candidate"
    if texts:
        raise ValueError(
            f"{name}: {said}, and row {texts[0]} has the text of a candidate that is no index. Write all answers as "
            "indices from 0, or in JSON all as texts in quotation marks."
        )
    logger.warning(f"{name}: {said}, as in {len(unclear)} rows. It is read as an index, which starts from 0.")


def load_video_questions(
    source: "str | Path | datasets.Dataset | pandas.DataFrame | Iterable[dict]",
    video_folder: str | Path | None = None,
    split: str = "train",
    task: str | None = None,
    require_answers: bool = True,
) -> list[VideoQuestion]:
    r"""
    Reads annotation rows and checks them.

    Columns: `video`, `question`, `answer`, and optionally `candidates`, `task`, `start`, `end` (seconds),
    `question_type` and `question_id` (the row's number when absent). Others are passed over, but a name that looks
    like one of these misspelt is refused. An empty or blank cell is none. Lists are JSON lists in CSV.

    - `video` is a path, an address, the file's bytes, or `{"path", "bytes"}`, as `datasets` has its videos.
    - `answer` of an open-ended question is a text, or a list of texts that are all right; a number is read as its
      digits. Of a count, it is a number from 0 to a million.
    - `answer` of a multiple-choice question is a candidate's text or its index, from 0. A number is the index, in
      CSV as in JSON; a text in quotation marks in JSON is first of all a text.
    - `candidates` differ from each other; a benchmark that its authors publish otherwise has `as_published` true.

    Args:
        source (`str`, `Path` or rows):
            A `.jsonl`, `.json`, `.csv` or `.tsv` file in UTF-8, the name or folder of a data set for
            `datasets.load_dataset`, a data set of `datasets` or its splits, a pandas `DataFrame`, or any iterable of
            rows as dictionaries.
        video_folder (`str` or `Path`, *optional*): The folder that relative video paths start from.
        split (`str`, *optional*, defaults to `"train"`): Split of a data set that has several.
        task (`str`, *optional*):
            The task of rows that name none. By default rows with candidates are multiple choice, others open-ended.
        require_answers (`bool`, *optional*, defaults to `True`):
            Whether a row without an answer is an error. Prediction needs none, and the siamese loss neither.

    Returns:
        `list[VideoQuestion]`: one for each row, in order; none is dropped.

    Raises:
        `ValueError`: If the source is empty, a column is missing or a row makes no sense; says which and why.
    """
    named = isinstance(source, str | Path)
    rows = rows_of(source, split)
    name = str(source) if named else "The rows"
    if not rows:
        raise ValueError(f"{name}: there are no rows. A data file needs one row a question.")
    for columns, number in {tuple(row): number for number, row in reversed(list(enumerate(rows, start=1)))}.items():
        _check_columns(dict.fromkeys(columns), f"{name}, row {number}")
    required = ("video", "question", "answer") if require_answers else ("video", "question")
    missing = [column for column in required if not any(column in row for row in rows)]
    if missing:
        raise ValueError(
            f"{name}: the column {' and the column '.join(missing)} is missing; there are "
            f"{', '.join(map(str, rows[0]))}."
        )
    folder = None if video_folder is None else Path(video_folder)
    from_csv = named and Path(source).suffix.lower() in (".csv", ".tsv")
    same_files: dict[bytes, bytes] = {}  # rows about a video share its bytes
    questions = []
    for number, row in enumerate(rows, start=1):
        where = f"{name}, row {number}"
        question = _video_question(row, where, task, number, folder, from_csv)
        if require_answers and question.answer is None:
            raise ValueError(f"{where}: the answer is empty.")
        if question.video_bytes is not None:
            shared = same_files.setdefault(question.video_bytes, question.video_bytes)
            question = dataclasses.replace(question, video_bytes=shared)
        questions.append(question)
    _check_ids(questions, name)
    _check_indices(rows, questions, name, from_csv)
    return questions


def read_skip_list(path: str | Path, video_folder: str | Path | None = None) -> set[str]:
    r"""
    The videos that a skip list names in its column `video`, as [`load_video_questions`] would name them.

    Args:
        path (`str` or `Path`):
            The `skip_list.jsonl` of `siasamrea check`, a run's `skipped_videos.jsonl` (also if its last line was cut),
            or any file of rows. Its paths start from the video folder, those of a run are what the run loaded.
        video_folder (`str` or `Path`, *optional*): The folder that the rows' relative video paths start from.

    Raises:
        `ValueError`: If there is no such file, or a row names no video.
    """
    path = Path(path)
    rows = read_jsonl(path, unfinished_end=True) if path.suffix.lower() == ".jsonl" else read_table(path, "train")
    videos = set()
    for number, row in enumerate(rows, start=1):
        video, _ = _video(row.get("video"), f"{path}, row {number}", None)
        videos.add(_as_loaded(video, "question_id" in row, None if video_folder is None else Path(video_folder)))
    return videos


def _as_loaded(video: str, of_run: bool, folder: Path | None) -> str:
    """A skip list's video as rows of `folder` name it: relative to the folder, or as a run had loaded it."""
    if folder is None or "://" in video:
        return video
    inside = os.path.relpath(os.path.abspath(video), os.path.abspath(folder))
    loaded = of_run or not (folder / video).exists()
    return str(folder / inside) if loaded and not inside.startswith("..") else str(folder / video)


__all__ = ["VideoQuestion", "load_video_questions", "read_skip_list"]
