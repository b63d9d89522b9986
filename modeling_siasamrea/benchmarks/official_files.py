"""Functions that the benchmarks' loaders share: finding annotation and video files, checking cells, making rows."""

import re
import string
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from transformers.utils import logging

from ..data.tables import rows_of


logger = logging.get_logger(__name__)


# Files


def annotation_file(annotations: Path, *names: str) -> Path:
    """
    Finds the first of `names` in a folder, ignoring case and taking hyphens for underscores. `data/rows.json` may also
    lie in the folder itself. A file is returned as it is. Raises a `ValueError` if none is there.
    """
    if annotations.is_file():
        return annotations
    for name in map(Path, names):
        for folder in (annotations / name.parent, annotations):
            files = {_plain_name(file.name): file for file in sorted(folder.glob("*")) if file.is_file()}
            if _plain_name(name.name) in files:
                return files[_plain_name(name.name)]
    raise ValueError(f"The folder {annotations} has no {' and no '.join(names)}.")


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "_")


def annotation_files(annotations: Path, subfolder: str, names: Iterable[str]) -> list[Path]:
    """
    Finds the files `{name}.json` in the subfolder of a folder, or in the folder itself, and warns of missing ones. A
    file is returned as it is. Raises a `ValueError` if none is there.
    """
    if annotations.is_file():
        return [annotations]
    folder = annotations / subfolder if (annotations / subfolder).is_dir() else annotations
    paths = [folder / f"{name}.json" for name in names]
    missing = ", ".join(path.name for path in paths if not path.is_file())
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ValueError(f"The folder {annotations} has none of {missing}.")
    if missing:
        logger.warning(f"The folder {annotations} has no {missing}; their questions are left out.")
    return found


# Rows


def read_rows(path: Path, *columns: str, rows: Iterable[dict] | None = None) -> Iterator[tuple[str, dict]]:
    """
    Yields the rows of a file, or those that were read from it, with their places for errors; raises a `ValueError` at
    one that lacks one of `columns`.
    """
    for number, row in enumerate(rows_of(path) if rows is None else rows, start=1):
        where = f"{path}, row {number}"
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise ValueError(f"{where}: {' and '.join(missing)} is missing; there are {', '.join(row)}.")
        yield where, row


def whole_number(value: object, last: int, name: str, where: str) -> int:
    """Reads a whole number from 0 to `last`, such as the index of an answer; raises a `ValueError` otherwise."""
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value).strip()) or int(value) > last:
        raise ValueError(f"{where}: {name} must be a whole number from 0 to {last}; got {value!r}.")
    return int(value)


def letter_index(letter: str, where: str) -> int:
    """Returns the index of the option that a letter names; raises a `ValueError` if it is no letter."""
    if not re.fullmatch("[A-Z]", letter):
        raise ValueError(f"{where}: answer must be the letter of an option; got {letter!r}.")
    return string.ascii_uppercase.index(letter)


def choice_row(question: str, options: object, answer: object, where: str) -> dict[str, object]:
    r"""
    Makes the cells of a multiple-choice row.

    Args:
        question (`str`): The question.
        options (`list[str]`): The candidates. If they begin with "A.", "B." and so on, these letters are removed.
        answer (`int` or `str`, *optional*): The index or text of the right one; `None` if it is not public.
        where (`str`): The row, for errors.

    Raises:
        `ValueError`: If there are fewer than two options, or the answer is none of them.
    """
    if not isinstance(options, list | tuple) or len(options) < 2:
        raise ValueError(f"{where}: the options must be a list of two or more; got {options!r}.")
    options = [str(option).strip() for option in options]
    letters = string.ascii_uppercase[: len(options)]
    if all(option.startswith(f"{letter}.") for letter, option in zip(letters, options)):
        options = [option[2:].strip() for option in options]
    if isinstance(answer, str):
        if answer.strip() not in options:
            raise ValueError(f"{where}: answer must be one of {options}; got {answer!r}.")
        answer = options.index(answer.strip())
    elif answer is not None:
        answer = whole_number(answer, len(options) - 1, "answer", where)
    cells = {"question": question, "candidates": options, "answer": answer}
    return cells | {"as_published": True, "task": "multiple_choice"}


def open_ended_rows(path: Path, find_video: Callable[[int | str], str]) -> Iterator[dict]:
    r"""
    Reads the files that MSVD-QA and MSRVTT-QA share, with `question`, `answer`, `video_id` and `id`, and ClipBERT's
    own, which have no `id`.

    Args:
        path (`Path`): The file.
        find_video (`Callable`): Returns the path of a video from its `video_id`.
    """
    for place, (_, row) in enumerate(read_rows(path, "question", "answer", "video_id")):
        yield {
            "video": find_video(row["video_id"]),
            "question": row["question"],
            "answer": row["answer"],
            "task": "open_ended",
            "question_id": str(row.get("id", place)),
            "question_type": (row["question"].split() or ["none"])[0].lower().strip("?,."),
        }
