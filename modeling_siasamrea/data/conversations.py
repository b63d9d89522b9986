"""Reads conversations about videos, as tools for video-language models store them, as rows."""

import re
import string
from collections.abc import Mapping
from typing import Any


ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
OPTION = re.compile(r"(?:(?<=\s)|^)\(?([A-Z])(?:\.|\)|:)\s*(?=\S)")
VIDEO_KEYS = ("video", "path", "url")  # of a part
MARK = re.compile("<video>|<image>")  # LLaVA marks a video as <image>, too


def is_conversation(row: Mapping) -> bool:
    """Returns whether a row is a conversation: `conversations`, `messages`, or `prompt` and `completion`."""
    columns = {name for name, value in row.items() if value is not None}
    return bool({"conversations", "messages"} & columns or {"prompt", "completion"} <= columns)


def rows_of_conversation(row: Mapping, where: str) -> list[dict[str, Any]]:
    r"""
    Makes a row of each question and answer of a conversation about one video.

    Args:
        row (`Mapping`):
            `conversations`, a list of `{"from", "value"}` (LLaVA, ShareGPT); `messages`, a list of
            `{"role", "content"}` (ms-swift, LLaMA-Factory, TRL); or `prompt` and `completion`, such lists or texts
            (TRL). Content is a text or a list of parts. The video is `video`, `videos` of one, or a part. Its mark,
            such as `<video>`, and what the system says are left out; other columns are kept.
        where (`str`): The row, for errors.

    Returns:
        `list[dict]`: the rows. Their `question_id` is the conversation's `id`, with the question's number behind it
        where there are several. (Conversations of the same `id` are told apart by the numbers of their rows.) A last
        question may be without an answer.

    Raises:
        `ValueError`: If it is not about exactly one video, has images, or its turns are not questions and answers.
    """
    turns, videos, images = _read_turns(row, where)
    if len(videos) != 1 or images:
        raise ValueError(f"{where}: a row must be about one video; it has {len(videos)} and {len(images)} images.")
    questions, answers = turns[::2], turns[1::2]
    if not turns or {role for role, _ in questions} != {"user"} or {role for role, _ in answers} - {"assistant"}:
        raise ValueError(f"{where}: questions and answers must alternate; got {', '.join(r for r, _ in turns)}.")
    of_conversation = ("conversations", "messages", "prompt", "completion", "videos", "id")
    others = {key: row[key] for key in row if key not in of_conversation}
    name = row.get("question_id", row.get("id"))
    if name is None and len(questions) > 1:
        name = where.rsplit(" ", 1)[-1]
    rows = []
    for place, (_, question) in enumerate(questions):
        answer = answers[place][1] if place < len(answers) else None
        rows.append({**others, "video": videos[0], "question": question, "answer": answer})
        if name is not None:
            rows[-1]["question_id"] = name if len(questions) == 1 else f"{name}_{place}"
    return rows


def _read_turns(row: Mapping, where: str) -> tuple[list[tuple[str, str]], list[Any], list[Any]]:
    """Reads the role and text of each turn, the videos and the images of a conversation."""
    videos, turns, marks = list(_listed(row.get("videos"))) or list(_listed(row.get("video"))), [], []
    images = [*_listed(row.get("image")), *_listed(row.get("images"))]
    for turn in _turns(row):
        role, content = None, None
        if isinstance(turn, Mapping):
            role, content = ROLES.get(turn.get("role", turn.get("from"))), turn.get("content", turn.get("value"))
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else _listed(content)
        if role is None or not all(isinstance(part, Mapping) for part in parts):
            raise ValueError(f"{where}: a turn must be the text of a user or an assistant; got {str(turn)[:80]}.")
        videos += [part[key] for part in parts if part.get("type") == "video" for key in VIDEO_KEYS if part.get(key)]
        images += [part for part in parts if "image" in str(part.get("type"))]
        text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
        if role != "system":
            marks += MARK.findall(text)
            turns.append((role, MARK.sub("", text).strip()))
    return turns, marks if len(marks) > max(1, len(videos)) else videos, images


def _turns(row: Mapping) -> list | tuple:
    """Returns the turns of a conversation."""
    for column in ("conversations", "messages"):
        if row.get(column) is not None:
            return _listed(row[column])
    roles = {"prompt": "user", "completion": "assistant"}
    turns = [[{"role": roles[c], "content": row[c]}] if isinstance(row[c], str) else _listed(row[c]) for c in roles]
    return [*turns[0], *turns[1]]


def _listed(value: Any) -> list | tuple:
    """Returns a list as it is, a single value as a list of it, and an empty list for nothing."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def options_of(text: str) -> tuple[str, list[str]] | None:
    r"""
    Splits a question and the options in it: "which ? A. red B. blue" into "which ?" and `["red", "blue"]`.

    Options are marked `A.`, `A)`, `A:` or `(A)`, in alphabetical order, each in a line of its own or all in one. The
    last one ends with its line, so that a request such as "Answer with the letter." is left out.

    Returns:
        `tuple[str, list[str]]`, or `None` if there are fewer than two options.
    """
    marks: list[re.Match] = []
    for mark in OPTION.finditer(text):
        if mark[1] == string.ascii_uppercase[len(marks) % 26]:
            marks.append(mark)
        elif mark[1] == "A":
            marks = [mark]
    if len(marks) < 2:
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = [text[mark.end() : end].strip() for mark, end in zip(marks, ends)]
    question = re.sub(r"(?i)\s*(options|choices)\s*:?\s*$", "", text[: marks[0].start()])
    return question.strip(), [*options[:-1], options[-1].split("\n")[0].strip()]


def split_options(row: Mapping, where: str) -> Mapping:
    """
    Makes candidates of the options in a row's question. Its answer, an option's letter, text or both, becomes an
    index. A row that has candidates, or no options in its question, is returned as it is.
    """
    found = options_of(str(row.get("question") or ""))
    if found is None or row.get("candidates"):
        return row
    question, options = found
    answer = row.get("answer")
    if answer is not None:
        answer = option_index(str(answer), options, where)
    return {**row, "question": question, "candidates": options, "answer": answer}


def option_index(answer: str, options: list[str], where: str) -> int:
    """Finds the option that an answer names by its letter ("B", "(B)", "B. blue") or text; else a `ValueError`."""
    texts, answer = [option.strip() for option in options], answer.strip()
    named = {texts.index(answer)} if answer in texts else set()
    letter = re.match(r"\(?([A-Z])(?:[.):]+|$)\s*(.*)", answer, re.DOTALL)
    place = string.ascii_uppercase.index(letter[1]) if letter is not None else len(texts)
    if place < len(texts) and letter[2].strip() in ("", texts[place]):
        named.add(place)
    if len(named) != 1:
        raise ValueError(f"{where}: answer must be the letter or text of one of {options}; got {answer!r}.")
    return named.pop()


__all__ = [
    "is_conversation",
    "option_index",
    "options_of",
    "rows_of_conversation",
    "split_options",
]
