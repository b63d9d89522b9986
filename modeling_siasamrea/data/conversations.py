"""Reads conversations about videos, as tools for video-language models store them, as rows."""

import base64
import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

from transformers.utils import logging


logger = logging.get_logger(__name__)

CHATS = ("conversations", "messages", "QA")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
ROLES |= {"system": "system", "developer": "system"}
# Columns of a question and its answer: TRL's, also of preferences; ms-swift's; Alpaca's.
PAIRS = (("prompt", "completion"), ("prompt", "chosen"), ("query", "response"), ("instruction", "output"))
TEXTS = ("text", "input_text", "output_text")  # types of parts
VIDEOS = ("video", "video_url", "input_video")
OPTION = re.compile(r"(?:(?<=\s)|^)\(?([A-Z])(?:\.|\)|:)\s*(?=\S)")
# Where a medium goes; LLaVA marks a video as <image>, too.
MARK = re.compile(r"<video>|<image>|<audio>|(?:<\|vision_start\|>)?<\|video_pad\|>(?:<\|vision_end\|>)?")
THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)|</?answer>", re.DOTALL)


def is_conversation(row: Mapping) -> bool:
    """Returns whether a row is a conversation: one of `CHATS`, or a pair of columns such as `prompt`."""
    columns = {name for name, value in row.items() if value is not None}
    pair = "question" not in columns and any(columns.issuperset(pair) for pair in PAIRS)
    return bool(columns.intersection(CHATS)) or pair


def rows_of_conversation(row: Mapping, where: str) -> list[dict[str, Any]]:
    r"""
    Makes a row of each question and answer of a conversation about one video.

    Args:
        row (`Mapping`):
            `conversations`, a list of `{"from", "value"}` (LLaVA, ShareGPT); `messages`, a list of
            `{"role", "content"}` (ms-swift, LLaMA-Factory, TRL, OpenAI); `QA`, a list of `{"i", "q", "a"}`
            (VideoChat2), whose instruction is asked where the question is empty; or two columns of lists or texts:
            `prompt` and `completion` (TRL), `query` and `response` (ms-swift), `instruction` and `output` (Alpaca). Of
            preferences the answer is `chosen`. Content is a text or a list of parts. The video is `video`, `videos` of
            one, or a part of type `video`, `video_url` or `input_video`, with its `video_start` and `video_end`. Its
            mark, such as `<video>`, what the system says, and thoughts (`<think>`) are left out; other columns are
            kept. Where no answer follows the question, it is `solution` (ms-swift).
        where (`str`): The row, for errors.

    Returns:
        `list[dict]`: the rows. Their `question_id` is the conversation's `id`, with the question's number behind it
        where there are several. (Conversations of the same `id` are told apart by the numbers of their rows.) A last
        question may be without an answer.

    Raises:
        `ValueError`: If it is not about exactly one video alone, or its turns are not questions and answers.
    """
    turns, videos, span = _read_turns(row, where)
    questions, answers = turns[::2], turns[1::2]
    if not turns or {role for role, _ in questions} != {"user"} or {role for role, _ in answers} - {"assistant"}:
        raise ValueError(f"{where}: questions and answers must alternate; got {', '.join(r for r, _ in turns)}.")
    of_conversation = (*CHATS, *(name for pair in PAIRS for name in pair), "solution", "videos", "id")
    others = {key: row[key] for key in row if key not in of_conversation} | span
    name, number = row.get("question_id", row.get("id")), where.rsplit(" ", 1)[-1]
    rows = []
    for place, (_, question) in enumerate(questions):
        answer = (
            answers[place][1] if place < len(answers) else THOUGHTS.sub("", str(row.get("solution") or "")).strip()
        )
        own = name if len(questions) == 1 else f"{number if name is None else name}_{place}"
        rows.append({**others, "video": videos[0], "question": question, "answer": answer, "question_id": own})
    return rows


def _read_turns(row: Mapping, where: str) -> tuple[list[tuple[str, str]], list[Any], dict[str, float]]:
    """Reads the role and text of each turn, and the only video of a conversation with the span that a part gives."""
    given = _listed(row.get("videos")) or _listed(row.get("video"))
    videos, turns, span = [_source(video, where) for video in given], [], {}
    media = Counter(name for name in ("image", "audio") for key in (name, f"{name}s") for _ in _listed(row.get(key)))
    for turn in _turns(row):
        turn = turn if isinstance(turn, Mapping) else {"value": turn}
        role, content = ROLES.get(turn.get("role", turn.get("from"))), turn.get("content", turn.get("value"))
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else _listed(content)
        calls = turn.get("tool_calls") or turn.get("function_call") or "<tool_call>" in str(content)
        if role is None or calls or not all(isinstance(part, Mapping) for part in parts):
            raise ValueError(f"{where}: a turn must be the text of a user or an assistant; got {str(turn)[:80]}.")
        for part in parts:
            if part.get("type") in VIDEOS:
                videos += [_source(part[key], where) for key in (*VIDEOS, "path", "url") if part.get(key)]
                span |= {end: part[f"video_{end}"] for end in ("start", "end") if part.get(f"video_{end}") is not None}
            elif part.get("type") not in TEXTS:
                media[str(part.get("type"))] += 1
        text = "".join(str(part.get("text") or "") for part in parts if part.get("type") in TEXTS)
        if role != "system":
            media.update(mark=len(MARK.findall(text)), audio=text.count("<audio>"))
            if role == "assistant" and THOUGHTS.search(text):
                logger.warning_once("Thoughts in answers, <think>...</think>, are left out.")
                text = THOUGHTS.sub("", text)
            turns.append((role, MARK.sub("", text).strip()))
    media["video"] = len(videos)
    if len(videos) != 1 or media["mark"] > 1 or media.total() > 1 + media["mark"]:
        found = ", ".join(f"{name} ({number})" for name, number in sorted(media.items()) if number) or "none"
        raise ValueError(f"{where}: a row must be about one video alone; got {found}. `siasamrea rows` leaves it out.")
    return turns, videos, span


def _source(video: Any, where: str) -> Any:
    """Returns the path, address or bytes that a chat names a video by; a `ValueError` if it is a list of frames."""
    files = _listed(video)
    if len(files) != 1:
        raise ValueError(f"{where}: video must be one file; got a list of {len(files)}. Make a video of frames.")
    video = files[0]["url"] if isinstance(files[0], Mapping) and files[0].get("url") else files[0]
    if isinstance(video, str) and video.startswith("data:"):
        return {"bytes": base64.b64decode(video.partition(",")[2])}
    return video.removeprefix("file://") if isinstance(video, str) else video


def _turns(row: Mapping) -> list[Any]:
    """Returns the turns of a conversation."""
    for column in CHATS[:2]:
        if row.get(column) is not None:
            return [*_listed(row[column]), *_listed(row.get("chosen"))]
    if row.get("QA") is not None:
        given = [pair if isinstance(pair, Mapping) else {"q": [pair]} for pair in _listed(row["QA"])]
        pairs = [(pair.get("q") or pair.get("i"), pair.get("a")) for pair in given]
    else:
        asked, answered = next(pair for pair in PAIRS if row.get(pair[0]) is not None and row.get(pair[1]) is not None)
        question = f"{row[asked]}\n{row['input']}" if row.get("input") else row[asked]  # Alpaca's
        pairs = [*_listed(row.get("history")), (question, row[answered])]
    roles = ("user", "assistant")
    return [
        turn
        for pair in pairs
        for role, text in zip(roles, pair)
        for turn in ([{"role": role, "content": text}] if isinstance(text, str) else _listed(text))
    ]


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
    """Finds the option that an answer names by its letter ("B", "Answer: (B) blue") or text; else a `ValueError`."""
    texts, answer = [option.strip() for option in options], answer.strip()
    named = {texts.index(answer)} if answer in texts else set()
    letter = re.match(r"(?i:answer:\s*)?\(?([A-Z])(?:[.):]+|$)\s*(.*)", answer, re.DOTALL)
    place = string.ascii_uppercase.index(letter[1]) if letter is not None else len(texts)
    if place < len(texts) and letter[2].strip() in ("", texts[place]):
        named.add(place)
    if len(named) != 1:
        raise ValueError(f"{where}: answer must be the letter or text of one of {options}; got {answer!r}.")
    return named.pop()
