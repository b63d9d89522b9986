"""Annotation rows of video question answering: reading JSONL, CSV and `datasets` sources, and checking every row."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .configuration_siasamrea import TASKS


@dataclass(frozen=True)
class VideoQuestion:
    """
    One annotation row.

    Args:
        video (`str`): Path or address of the video.
        question (`str`): The question.
        answer (`str`, `int` or `float`, *optional*):
            The answer's text (`"open_ended"`), the index of the right candidate (`"multiple_choice"`) or the number
            (`"count"`). `None` where it is not known, which only prediction accepts.
        task (`str`): `"open_ended"`, `"multiple_choice"` or `"count"`.
        question_id (`str`): Names the row; unique within its file.
        candidates (`tuple[str, ...]`, *optional*): The answers to choose from, for multiple choice.
        start (`float`, *optional*): Where the part of the video that is asked about starts, in seconds.
        end (`float`, *optional*): Where it ends, in seconds.
        question_type (`str`, *optional*): A kind of question whose accuracy is reported on its own.
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

    @property
    def video_group(self) -> tuple[str, str, float | None, float | None]:
        """What questions must have in common to share frames: the task and the part of the video."""
        return self.task, self.video, self.start, self.end


def read_json(path: Path) -> list[dict]:
    """The rows of a JSON file that is one list; a `ValueError` says so if it is not."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path} must be a list of rows; it is a {type(rows).__name__}.")
    return rows


def read_jsonl(path: Path) -> list[dict]:
    """The rows of a JSONL file; a `ValueError` names the line that is none."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not a JSON object on one line ({error}).") from None
    return rows


def read_table(source: str | Path, split: str) -> list[dict]:
    """The rows of a JSONL, JSON (one list) or CSV file, or of a data set known to `datasets` by name or folder."""
    path = Path(source)
    if path.suffix not in (".jsonl", ".json", ".csv"):
        import datasets  # here, because it is slow to import

        return datasets.load_dataset(str(source), split=split).to_list()
    if not path.is_file():
        raise ValueError(f"The data file {source} does not exist.")
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return read_json(path) if path.suffix == ".json" else read_jsonl(path)


def _candidates(value: object, where: str) -> tuple[str, ...] | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(f'{where}: candidates must be a JSON list such as ["a", "b"]; got {value!r}.') from None
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise ValueError(f"{where}: candidates must be a list of two or more answers; got {value!r}.")
    return tuple(str(candidate) for candidate in value)


def _seconds(value: object, name: str, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {name} must be a time in seconds; got {value!r}.") from None


def _candidate_index(answer: object, candidates: tuple[str, ...], where: str) -> int:
    """The right candidate's index, given as its text or (where no candidate reads so) as its index."""
    text = str(answer).strip()
    if text in candidates:
        return candidates.index(text)
    if text.isdecimal() and int(text) < len(candidates):
        return int(text)
    raise ValueError(
        f"{where}: the answer {answer!r} is neither one of the candidates {list(candidates)} nor the index of one, "
        f"from 0 to {len(candidates) - 1}."
    )


def _answer(row: dict, task: str, candidates: tuple[str, ...] | None, where: str) -> str | int | float | None:
    answer = row.get("answer")
    if answer is None or answer == "":
        return None
    if task == "multiple_choice":
        # A JSON number is an index, whatever the candidates read.
        if isinstance(answer, int) and 0 <= answer < len(candidates):
            return answer
        return _candidate_index(answer, candidates, where)
    if task == "count":
        try:
            return float(answer)
        except ValueError:
            raise ValueError(f"{where}: the answer of a count must be a number; got {answer!r}.") from None
    return str(answer).strip()


def _video_question(row: dict, where: str, task: str | None, question_id: str, video_folder: Path | None):
    for name in ("video", "question"):
        if not row.get(name):
            raise ValueError(f"{where}: {name} is empty.")
    candidates = _candidates(row.get("candidates"), where)
    task = row.get("task") or task or ("multiple_choice" if candidates else "open_ended")
    if task not in TASKS:
        raise ValueError(f"{where}: task must be one of {list(TASKS)}; got {task!r}.")
    if (task == "multiple_choice") != (candidates is not None):
        raise ValueError(
            f"{where}: the task is {task!r}, but it has {'no ' if candidates is None else ''}candidates. "
            "Multiple-choice rows have candidates, the others have none."
        )
    start, end = (_seconds(row.get(name), name, where) for name in ("start", "end"))
    if start is not None and end is not None and end <= start:
        raise ValueError(f"{where}: end must be after start; got start={start} and end={end} seconds.")
    video = str(row["video"])
    if video_folder is not None and "://" not in video:
        video = str(video_folder / video)  # an absolute path stays as it is
    return VideoQuestion(
        video=video,
        question=str(row["question"]),
        answer=_answer(row, task, candidates, where),
        task=task,
        question_id=question_id,
        candidates=candidates,
        start=start,
        end=end,
        question_type=None if row.get("question_type") in (None, "") else str(row["question_type"]),
    )


def _check_together(questions: list[VideoQuestion], source: str) -> None:
    """What only shows over all rows: repeated ids, and candidates of different numbers, which no batch can hold."""
    seen: set[str] = set()
    number_of_candidates: int | None = None
    for question in questions:
        if question.question_id in seen:
            raise ValueError(
                f"{source}: the question_id {question.question_id!r} is there twice; it must name one row."
            )
        seen.add(question.question_id)
        if question.candidates is not None:
            number_of_candidates = number_of_candidates or len(question.candidates)
            if len(question.candidates) != number_of_candidates:
                raise ValueError(
                    f"{source}, question {question.question_id}: it has {len(question.candidates)} candidates and "
                    f"earlier rows have {number_of_candidates}. All rows of a file must have the same number."
                )


def load_video_questions(
    source: str | Path | Iterable[dict],
    video_folder: str | Path | None = None,
    split: str = "train",
    task: str | None = None,
    require_answers: bool = True,
) -> list[VideoQuestion]:
    r"""
    Reads annotation rows and checks them.

    Args:
        source (`str`, `Path` or rows):
            A `.jsonl`, `.json` or `.csv` file, the name or folder of a data set for `datasets.load_dataset`, a
            `datasets.Dataset`, or any rows as dictionaries. Columns: `video`, `question`, `answer`, and optionally
            `candidates` (a list, in CSV a JSON list), `task`, `start`, `end` (seconds), `question_type` and
            `question_id` (the row's number when absent). Other columns are ignored.
        video_folder (`str` or `Path`, *optional*): The folder that relative video paths start from.
        split (`str`, *optional*, defaults to `"train"`): Split of a data set that is given by name.
        task (`str`, *optional*):
            The task of rows that name none. By default rows with candidates are multiple choice, others open-ended.
        require_answers (`bool`, *optional*, defaults to `True`): Whether a row without an answer is an error.

    Returns:
        `list[VideoQuestion]`: one for each row, in order; none is dropped.

    Raises:
        `ValueError`: If the source is empty, a column is missing or a row makes no sense; says which and why.
    """
    named = isinstance(source, str | Path)
    rows = read_table(source, split) if named else list(source)
    name = str(source) if named else "The rows"
    if not rows:
        raise ValueError(f"{name}: there are no rows. A data file needs one row a question.")
    required = ("video", "question", "answer") if require_answers else ("video", "question")
    missing = [column for column in required if not any(column in row for row in rows)]
    if missing:
        raise ValueError(
            f"{name}: the column {' and the column '.join(missing)} is missing; there are {', '.join(rows[0])}."
        )
    folder = None if video_folder is None else Path(video_folder)
    questions = []
    for number, row in enumerate(rows):
        question_id = row.get("question_id")
        question_id = str(number) if question_id in (None, "") else str(question_id)
        question = _video_question(row, f"{name}, row {number + 1}", task, question_id, folder)
        if require_answers and question.answer is None:
            raise ValueError(f"{name}, row {number + 1}: the answer is empty.")
        questions.append(question)
    _check_together(questions, name)
    return questions


def read_skip_list(path: str | Path, video_folder: str | Path | None = None) -> set[str]:
    """The videos a JSONL skip list names in its column `video`, as [`load_video_questions`] would name them."""
    folder = None if video_folder is None else Path(video_folder)
    videos = {row["video"] for row in read_table(path, split="train")}
    return {video if folder is None or "://" in video else str(folder / video) for video in videos}


__all__ = ["VideoQuestion", "load_video_questions", "read_skip_list"]
