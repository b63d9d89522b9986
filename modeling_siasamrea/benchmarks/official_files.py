"""What the benchmarks' loaders share: they find annotation and video files, check cells and make rows."""

import os
import re
import string
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..data.folder_files import FolderFiles
from ..data.tables import parse_json, read_json, read_jsonl, read_text
from ..processors.video_decoding import VIDEO_SUFFIXES


def annotation_file(annotations: Path, *names: str) -> Path:
    """
    Finds the first of `names` in a folder, whatever their capitals, hyphens and underscores; a file is taken as it is.
    Raises a `ValueError` that names them if none is there.
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


def read_rows(path: Path, *columns: str) -> list[dict]:
    """Reads the rows of a JSON or JSONL file; raises a `ValueError` at a row that lacks one of `columns`."""
    rows = list(read_jsonl(path)) if path.suffix.lower() == ".jsonl" else read_json(path)
    check_columns(path, rows, *columns)
    return rows


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that is one object; raises a `ValueError` if it is something else."""
    content = parse_json(read_text(path), str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object; it is a {type(content).__name__}.")
    return content


def check_columns(path: Path, rows: list[dict], *columns: str) -> None:
    """Raises a `ValueError` if a row lacks one of `columns`, or there are no rows."""
    if not rows:
        raise ValueError(f"{path} has no rows.")
    for number, row in enumerate(rows, start=1):
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise ValueError(f"{path}, row {number}: {' and '.join(missing)} is missing; there are {', '.join(row)}.")


def whole_number(value: object, last: int, name: str, where: str) -> int:
    """Reads a whole number from 0 to `last`, such as the index of an answer; raises a `ValueError` otherwise."""
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value).strip()) or int(value) > last:
        raise ValueError(f"{where}: {name} must be a whole number from 0 to {last}; got {value!r}.")
    return int(value)


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

    def find(self, names: Iterable[str], official_file: str) -> str:
        """Finds the first of `names` (see [`FolderFiles`]) that is there, or says where `official_file` should be."""
        if self.files is None:
            return official_file
        return self.files.find(*names) or str(self.folder / official_file)


def one_of_splits(benchmark: str, split: str, *published: str) -> str:
    """Gives the split; raises a `ValueError` if the authors publish no such one."""
    if split not in published:
        raise ValueError(f"The benchmark {benchmark} has no split {split!r}; choose from {', '.join(published)}.")
    return split


def without_suffix(name: str) -> str:
    """Leaves out the suffix of a video's name; what else is behind a dot stays."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def letter_index(letter: str, where: str) -> int:
    """Gives the index of the option that a letter names; raises a `ValueError` if it is no letter."""
    if not re.fullmatch("[A-Z]", letter):
        raise ValueError(f"{where}: answer must be the letter of an option; got {letter!r}.")
    return string.ascii_uppercase.index(letter)


def choice_row(question: str, options: object, answer: object, where: str) -> dict[str, object]:
    r"""
    Makes the cells of a multiple-choice row.

    Args:
        question (`str`): The question.
        options (`list[str]`): The candidates. If they begin with "A.", "B." and so on, these are left out.
        answer (`int` or `str`, *optional*): The right one, as its index or its text; `None` if it is not public.
        where (`str`): The row, for errors.

    Raises:
        `ValueError`: If there are no two options, or the answer is none of them.
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
    """Gives the question's first word, which is its type in MSVD-QA and MSRVTT-QA."""
    words = question.split()
    return words[0].lower().strip("?,.") if words else "none"


def short_name(split: str) -> str:
    """Names the split as most authors name their files."""
    return "val" if split == "validation" else split


def open_ended_rows(path: Path, find_video: Callable[[int], str]) -> list[dict]:
    r"""
    Reads the files that MSVD-QA and MSRVTT-QA share: `question`, `answer`, `video_id` and `id`.

    Args:
        path (`Path`): The file.
        find_video (`Callable`): Gives the path of a video by its number.

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
        for row in read_rows(path, "question", "answer", "video_id", "id")
    ]


def clipbert_rows(path: Path, videos: VideoFolder, task: str, suffix: str) -> list[dict]:
    r"""
    Reads ClipBERT's own jsonl files: `video_id` or `gif_name`, `question`, `answer`, and where there are any
    `options` and `answer_type`.

    Args:
        path (`Path`): The file.
        videos ([`VideoFolder`]): Its videos.
        task (`str`): The task of its rows.
        suffix (`str`): Suffix of an official video file.

    Returns:
        `list[dict]`: rows in this package's columns.
    """
    rows = []
    for number, official in enumerate(read_rows(path, "question", "answer"), start=1):
        name = official.get("gif_name", official.get("video_id"))
        if name is None:
            raise ValueError(f"{path}, row {number}: gif_name or video_id is missing; it has {', '.join(official)}.")
        row = {"video": videos.find([str(name)], f"{name}{suffix}"), "question": official["question"], "task": task}
        row |= {"answer": official["answer"] if task != "open_ended" else str(official["answer"])}
        row["question_id"] = str(official.get("question_id", number - 1))
        if "options" in official:
            row |= {"candidates": [str(option) for option in official["options"]], "as_published": True}
            whole_number(official["answer"], len(row["candidates"]) - 1, "answer", f"{path}, row {number}")
        row["question_type"] = official.get("answer_type") or first_word(official["question"])
        rows.append(row)
    return rows
