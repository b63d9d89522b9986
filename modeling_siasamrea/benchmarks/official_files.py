"""What the benchmarks' loaders share: they find annotation and video files, check cells and make rows."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ..data.folder_files import FolderFiles
from ..data.tables import read_json, read_jsonl
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
