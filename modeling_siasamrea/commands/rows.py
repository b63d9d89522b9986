"""`siasamrea rows`: annotation rows of any kind, checked, in one file for this package or for other trainers."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ..data.questions import VideoQuestion, load_video_questions
from ..data.unlabelled_rows import name_unlabelled
from .parser import parser_for
from .printing import one_line


NAMED = 3  # left-out rows whose reason is printed


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the number of rows that were written."""
    arguments = rows_arguments(argv)
    target = Path(arguments.target)
    if target.exists() and Path(arguments.source).exists() and os.path.samefile(arguments.source, target):
        raise ValueError(f"The file {target} must differ from the one that is read.")
    lines: list[str] = []
    left_out: list[str] = []
    source = (arguments.source, arguments.video_folder, arguments.split)
    how = {"require_answers": False, "options_in_question": arguments.options_in_question}
    questions = load_video_questions(*source, refused=left_out, **how)
    write = {"rows": as_row, "messages": as_messages}[arguments.format]
    for question in questions:
        try:
            lines.append(json.dumps(write(question), ensure_ascii=False) + "\n")
        except ValueError as error:
            left_out.append(str(error))
    target.write_text("".join(lines), encoding="utf-8")
    unlabelled = name_unlabelled(questions)
    print(f"{target}: rows: {len(lines)}, left out: {len(left_out)}" + (f"; {unlabelled}" if unlabelled else ""))
    for sentence in left_out[:NAMED]:
        print(one_line(sentence), file=sys.stderr)
    if len(left_out) > NAMED:
        print(f"... and {len(left_out) - NAMED} more.", file=sys.stderr)
    return len(lines)


def as_row(question: VideoQuestion) -> dict[str, Any]:
    """Writes a row in this package's columns; raises a `ValueError` if its video is there as bytes alone."""
    if question.video_bytes is not None:
        raise ValueError(f"The row {question.question_id!r} must have its video by a path; it has its bytes.")
    row = {name: value for name, value in dataclasses.asdict(question).items() if value not in (None, ())}
    if others := row.pop("other_answers", ()):
        row["answer"] = [question.answer, *others]
    return row


def as_messages(question: VideoQuestion) -> dict[str, Any]:
    r"""
    Writes a row as other trainers of video-language models read it: `messages`, `videos` and `id`.

    Candidates are written below the question as options, and the answer is then its letter.

    Raises:
        `ValueError`: If the row has no answer, or what such a row cannot hold: a part of the video, or its bytes.
    """
    where = f"The row {question.question_id!r}"
    if question.answer is None or question.video_bytes is not None or (question.start, question.end) != (None, None):
        raise ValueError(f"{where} must have an answer, and a whole video by its path, to be written as messages.")
    text, answer = question.question, question.answer
    if question.candidates is not None:
        if len(question.candidates) > len(ascii_uppercase):
            raise ValueError(f"{where} must have at most 26 candidates; it has {len(question.candidates)}.")
        text += "".join(f"\n{letter}. {option}" for letter, option in zip(ascii_uppercase, question.candidates))
        answer = ascii_uppercase[answer]
    elif question.task == "count":
        answer = f"{answer:g}"
    messages = [{"role": "user", "content": f"<video>{text}"}, {"role": "assistant", "content": answer}]
    return {"id": question.question_id, "messages": messages, "videos": [question.video]}


def rows_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Checks annotation rows and writes them to one JSONL file.

        siasamrea rows rows.jsonl conversations.jsonl --format messages
        siasamrea rows llava.json rows.jsonl --options_in_question

    Rows are read as `siasamrea train` reads them, but conversations about several videos or with images are left out
    and named. The format `rows` has this package's columns; `messages` is for ms-swift, LLaMA-Factory and TRL, with
    candidates as lettered options. It cannot hold rows without an answer, about a part of a video, or with a video's
    bytes: these are left out and named, too.
    """
    parser = parser_for(rows_arguments)
    parser.add_argument("source", help="a file, or the name or folder of a data set")
    parser.add_argument("target", help="the file to write")
    parser.add_argument("--format", choices=("rows", "messages"), default="rows", help="default: %(default)s")
    parser.add_argument("--videos", "--video_folder", dest="video_folder", help="folder that video paths start from")
    parser.add_argument("--split", default="train", help="split of a data set; default: %(default)s")
    parser.add_argument("--options_in_question", action="store_true", help='"A. red B. blue" become candidates')
    return parser.parse_args(argv)
