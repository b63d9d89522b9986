"""Functions that the benchmarks' loaders share: finding annotation and video files, checking cells, making rows."""

import os
import re
import string
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.folder_files import FolderFiles
from ..data.tables import parse_json, read_table, read_text
from ..processors.video_decoding import VIDEO_SUFFIXES


logger = logging.get_logger(__name__)


# Files


def annotation_file(annotations: Path, *names: str) -> Path:
    """
    Finds the first of `names` in a folder, ignoring case, hyphens and underscores; a file is returned as it is. Raises
    a `ValueError` if none is there.
    """
    if annotations.is_file():
        return annotations
    files = {_plain_name(file.name): file for file in sorted(annotations.iterdir()) if file.is_file()}
    for name in names:
        if (annotations / name).is_file():
            return annotations / name
        if _plain_name(name) in files:
            return files[_plain_name(name)]
    raise ValueError(f"The folder {annotations} has no {' and no '.join(names)}.")


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "_")


def annotation_files(annotations: Path, names: Iterable[str]) -> list[Path]:
    """
    Finds the files `{name}.json` in a folder and warns of those that are not there; a file is returned as it is.
    Raises a `ValueError` if none is there.
    """
    if annotations.is_file():
        return [annotations]
    paths = [annotations / f"{name}.json" for name in names]
    missing = ", ".join(path.name for path in paths if not path.is_file())
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ValueError(f"The folder {annotations} has none of {missing}.")
    if missing:
        logger.warning(f"The folder {annotations} has no {missing}; their questions are left out.")
    return found


def published_folder(annotations: Path, name: str) -> Path:
    """Returns the subfolder in which the authors publish their annotation files, or `annotations` if it has none."""
    return annotations / name if (annotations / name).is_dir() else annotations


class VideoFolder:
    """
    Finds the videos of a folder and its subfolders by their names without suffix.

    Args:
        folder (`Path`, *optional*): The folder; without one, every video gets its official name.

    Raises:
        `ValueError`: If the folder does not exist.
    """

    def __init__(self, folder: Path | None):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"The video folder {folder} does not exist.")
        self.folder = folder
        self.files = None if folder is None else FolderFiles(folder, VIDEO_SUFFIXES)

    def find(self, official: str, *others: str) -> str:
        """Finds a video by its official file name or another, see [`FolderFiles`]; or returns where it should be."""
        if self.files is None:
            return official
        stems = (os.path.splitext(name)[0] for name in (official, *others))
        return self.files.find(*stems) or str(self.folder / official)


# Rows


def read_rows(path: Path, *columns: str) -> list[tuple[str, dict]]:
    """Reads the rows of a file with their places for errors, see [`check_rows`]."""
    return check_rows(path, read_table(path, "train"), *columns)


def check_rows(path: Path, rows: Iterable[dict], *columns: str) -> list[tuple[str, dict]]:
    """Pairs rows with their places; raises a `ValueError` if there are none, or one lacks one of `columns`."""
    placed = [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]
    if not placed:
        raise ValueError(f"{path} has no rows.")
    for where, row in placed:
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise ValueError(f"{where}: {' and '.join(missing)} is missing; there are {', '.join(row)}.")
    return placed


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that is one object; raises a `ValueError` if it is something else."""
    content = parse_json(read_text(path), str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object; it is a {type(content).__name__}.")
    return content


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


def first_word(question: str) -> str:
    """Returns the question's first word, which is its type in MSVD-QA and MSRVTT-QA."""
    words = question.split()
    return words[0].lower().strip("?,.") if words else "none"


def short_name(split: str) -> str:
    """Returns the name of the split in most authors' file names."""
    return "val" if split == "validation" else split


def open_ended_rows(path: Path, find_video: Callable[[int], str]) -> list[dict]:
    r"""
    Reads the files that MSVD-QA and MSRVTT-QA share: `question`, `answer`, `video_id` and `id`.

    Args:
        path (`Path`): The file.
        find_video (`Callable`): Returns the path of a video from its number.

    Returns:
        `list[dict]`: rows in this package's columns.
    """
    return [
        {
            "video": find_video(row["video_id"]),
            "question": row["question"],
            "answer": row["answer"],
            "task": "open_ended",
            "question_id": str(row["id"]),
            "question_type": first_word(row["question"]),
        }
        for _, row in read_rows(path, "question", "answer", "video_id", "id")
    ]


def clipbert_rows(path: Path, folder: VideoFolder, task: str, suffix: str) -> list[dict]:
    r"""
    Reads ClipBERT's own jsonl files: `video_id` or `gif_name`, `question`, `answer`, and optionally `options` and
    `answer_type`.

    Args:
        path (`Path`): The file.
        folder ([`VideoFolder`]): Its videos.
        task (`str`): The task of its rows.
        suffix (`str`): Suffix of an official video file.

    Returns:
        `list[dict]`: rows in this package's columns.
    """
    name = "gif_name" if suffix == ".gif" else "video_id"
    rows = []
    for place, (where, official) in enumerate(read_rows(path, name, "question", "answer")):
        question, answer = official["question"], official["answer"]
        row = {"video": folder.find(f"{official[name]}{suffix}"), "question": question, "task": task}
        row |= {"answer": str(answer) if task == "open_ended" else answer}
        row |= {"question_id": str(official.get("question_id", place))}
        row |= {"question_type": official.get("answer_type") or first_word(question)}
        rows.append(row | (choice_row(question, official["options"], answer, where) if "options" in official else {}))
    return rows
