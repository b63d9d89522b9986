"""
`siasamrea ask`: a question about a video, or a list of requests that a killed job goes on with. What a request and
its answer are, says [`ask_arguments`].
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from tqdm import tqdm
from transformers import Pipeline

from . import checkpoint as answerer_loading
from .arguments import fits, refuse_unknown
from .checkpoint import CHECKPOINT
from .parser import parser_for


FIELDS = {
    "video": str,
    "question": str | list[str],
    "candidates": list[str] | list[list[str]] | None,
    "start": float | None,
    "end": float | None,
    "task": str | None,
    "question_id": Any,
}
REQUESTS_TOGETHER = 16  # their texts go through the model in one pass
ANSWER_FIELDS = ("answer", "answers", "error")


def check_request(request: dict[str, Any]) -> None:
    r"""
    Refuses a request that makes no sense before its video is opened.

    Raises:
        `ValueError`: If a field does not exist, is missing or has a value that it cannot have.
    """
    refuse_unknown(request, FIELDS, "The request", "fields")
    for name, hint in FIELDS.items():
        value = request.get(name)
        if (isinstance(value, str) and name in ("start", "end")) or not fits(value, hint):
            raise ValueError(f"The request's {name} cannot be {value!r}.")
    if not request["video"] or not request["question"]:
        raise ValueError("A request needs a video and a question; one of them is empty.")
    for name in ("start", "end"):
        value = request.get(name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a time of 0 seconds or more; got {value}.")
    if None not in (request.get("start"), request.get("end")) and request["end"] <= request["start"]:
        raise ValueError(f"end must be after start; got start={request['start']} and end={request['end']} seconds.")


def read_request(line: str) -> dict[str, Any]:
    """The object on a line; whatever else is there stands under `request`, so that its answer can name it."""
    try:
        request = json.loads(line)
    except json.JSONDecodeError:
        request = line
    return request if isinstance(request, dict) else {"request": request}


def answer_lines(answerer: Pipeline, lines: Sequence[str], top_k: int) -> list[dict[str, Any]]:
    """
    Requests with their answers, or with the sentence that says why there are none. Those about the same span of a
    video share its decoding.
    """
    requests = [read_request(line) for line in lines]
    try:
        asked = [as_asked(request) for request in requests]
        answers = answerer(asked, top_k=top_k)
    except ValueError as error:
        if len(requests) > 1:  # one of them is wrong, or their video
            return [answer for line in lines for answer in answer_lines(answerer, [line], top_k)]
        return [requests[0] | {"error": " ".join(str(error).split())}]
    return [with_answers(*pair) for pair in zip(requests, answers)]


def as_asked(request: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline takes of a request; a `ValueError` if it makes no sense."""
    if list(request) == ["request"]:
        raise ValueError(f"A request must be a JSON object on one line; got {request['request']!r:.100}.")
    check_request(request)
    return {name: value for name, value in request.items() if name != "question_id" and value is not None}


def with_answers(request: dict[str, Any], answers: list) -> dict[str, Any]:
    """A request with its answers."""
    several = isinstance(request["question"], list)
    best = [one[0]["answer"] for one in answers] if several else answers[0]["answer"]
    return request | {"answer": best, "answers": answers}


def span(line: str) -> tuple:
    """Equal for requests about the same span of a video."""
    request = read_request(line)
    return tuple(repr(request.get(name)) for name in ("video", "start", "end"))


def together(items: Iterable[Any], span_of: Callable[[Any], tuple]) -> Iterator[list[Any]]:
    """What follows each other and is about the same span of a video, a few at a time."""
    for _, of_span in groupby(items, span_of):
        while some := list(islice(of_span, REQUESTS_TOGETHER)):
            yield some


def request_lines(file: Iterable[bytes]) -> Iterator[str]:
    """The lines that are not blank. Bytes that are no UTF-8 are kept visible, so that only their line is wrong."""
    for line in file:
        text = line.decode("utf-8-sig", errors="backslashreplace").strip()
        if text:
            yield text


def load_answerer(model: str) -> Pipeline:
    r"""
    The pipeline of a checkpoint, on this process's GPU where there is one.

    Raises:
        `ValueError`: If there is no checkpoint.
    """
    if model == CHECKPOINT and not Path(model).exists():
        raise ValueError(f"There is no {model}: give --model, or make it by `siasamrea train quickstart`.")
    device = int(os.environ.get("LOCAL_RANK", 0)) if torch.cuda.is_available() else None
    return answerer_loading.load_answerer(model, device)


# A long list, shared by processes


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file, without half a last line, which a kill left; a `ValueError` if it has others."""
    content = path.read_bytes()
    try:
        return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]]
    except ValueError:
        raise ValueError(f"{path} is not a file of answers. Choose another --output.") from None


def drop_half_line(part: Path) -> None:
    """Removes half a last line, so that a process can write on."""
    if part.exists():
        os.truncate(part, part.read_bytes().rfind(b"\n") + 1)


def part_files(output: Path) -> list[Path]:
    """The files of the processes that have worked on an output so far."""
    return sorted(output.parent.glob(f"{output.name}.part*"))


def read_answered(output: Path, lines: Sequence[str]) -> dict[int, dict]:
    r"""
    What is answered already, by the request's place in the list.

    Raises:
        `ValueError`: If the files hold answers to other requests.
    """
    answered = dict(enumerate(read_lines(output))) if output.exists() else {}
    for part in part_files(output):
        answered |= dict(read_lines(part))
    is_whole = not output.exists() or output.read_bytes().endswith(b"\n") or output.stat().st_size == 0
    if not is_whole or not all(isinstance(answer, dict) for answer in answered.values()):
        raise ValueError(f"{output} is not a file of answers. Choose another --output.")
    for place, answer in answered.items():
        if place >= len(lines) or without_answers(answer) != without_answers(read_request(lines[place])):
            raise ValueError(f"{output} has answers to other requests than these. Choose another --output.")
    return answered


def without_answers(answer: dict[str, Any]) -> dict[str, Any]:
    """The request that an answer belongs to."""
    return {name: value for name, value in answer.items() if name not in ANSWER_FIELDS}


def write_whole(output: Path, answered: dict[int, dict]) -> None:
    """Writes all answers in order, whole or not at all, and removes the processes' files."""
    unfinished = output.with_name(f".{output.name}.unfinished")
    lines = [json.dumps(answered[place]) + "\n" for place in sorted(answered)]
    unfinished.write_text("".join(lines), encoding="utf-8")
    os.replace(unfinished, output)
    for part in part_files(output):
        part.unlink()


def answer_list(source: str, output: Path, model: str, top_k: int) -> None:
    r"""
    Answers a list of requests into a file, together with the other processes of `torchrun`, after what is there.

    Args:
        source (`str`): A JSONL file of requests, or "-" for the standard input of the first process.
        output (`Path`): The file; while processes work, each has one of its own beside it, `<output>.part<rank>`.
        model (`str`): The checkpoint.
        top_k (`int`): The most answers to a question.

    Raises:
        `ValueError`: If the output has answers to other requests.
    """
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    # The first process alone reads the list and what is answered.
    shared: list[Any] = [None, None]
    if processes > 1:
        distributed.init_process_group("gloo")
    if rank == 0:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            shared[0] = list(read_source(source))
            shared[1] = read_answered(output, shared[0])
        except OSError as error:
            shared[1] = f"The file {output} cannot be written: {error.strerror}."
        except ValueError as error:
            shared[1] = str(error)
    if processes > 1:
        distributed.broadcast_object_list(shared)
    lines, answered = shared
    if isinstance(answered, str):
        raise ValueError(answered)
    todo = (place for place in range(len(lines)) if place not in answered)
    parts = list(together(todo, lambda place: span(lines[place])))[rank::processes]
    if parts:
        answerer = load_answerer(model)
        part = output.with_name(f"{output.name}.part{rank}")
        drop_half_line(part)
        with open(part, "a", encoding="utf-8") as file:
            progress = tqdm(total=sum(map(len, parts)), desc="Answering", unit="request", disable=rank > 0)
            for places in parts:
                answers = answer_lines(answerer, [lines[place] for place in places], top_k)
                file.writelines(json.dumps(pair) + "\n" for pair in zip(places, answers))
                file.flush()
                progress.update(len(places))
            progress.close()
    if processes > 1:
        distributed.monitored_barrier(timeout=timedelta(days=30))  # shares of a list take unlike times
    if rank == 0:
        answered = read_answered(output, lines)
        write_whole(output, answered)
        errors = sum("error" in answer for answer in answered.values())
        print(f"{output}: {len(answered)} answers, {errors} of them errors.", file=sys.stderr)
    if processes > 1:
        distributed.destroy_process_group()


def read_source(source: str) -> Iterator[str]:
    """The requests of a file or of standard input, as they come."""
    if source == "-":
        yield from request_lines(sys.stdin.buffer)
        return
    with open(source, "rb") as file:
        yield from request_lines(file)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    arguments = ask_arguments(argv)
    if arguments.output is not None:
        answer_list(arguments.video, arguments.output, arguments.model, arguments.top_k)
        return
    if arguments.is_list:
        answerer = load_answerer(arguments.model)
        lines = read_source(arguments.video)
        # Whoever writes to standard input may wait for an answer before the next request.
        parts = ([line] for line in lines) if arguments.video == "-" else together(lines, span)
        for some in parts:
            for answer in answer_lines(answerer, some, arguments.top_k):
                print(json.dumps(answer), flush=True)
        return
    about = {name: getattr(arguments, name) for name in FIELDS if getattr(arguments, name, None) is not None}
    check_request(about)
    answers = load_answerer(arguments.model)(**about, top_k=arguments.top_k)
    if arguments.json:
        print(json.dumps(about | {"answer": answers[0]["answer"], "answers": answers}))
    else:
        for answer in answers:
            score = f"\t{answer['score']:.3f}" if arguments.top_k > 1 and "score" in answer else ""
            print(f"{answer['answer']}{score}")


def ask_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Asks a checkpoint about a video, or many questions from a list.

        siasamrea ask cat.mp4 "what does the cat do?" --model my-model
        siasamrea ask cat.mp4 "what is it?" --candidates "a cat" "a dog" --start 2 --end 7.5 --json
        siasamrea ask - < requests.jsonl
        torchrun --nproc_per_node 4 -m modeling_siasamrea ask requests.jsonl --output answers.jsonl

    A request is a JSON object on a line: video, question (or a list of them), and optionally candidates, start, end
    (seconds), task and question_id. Its answer is the same object with `answer`, the best, and `answers`, the best
    --top_k with their scores; or with `error`, which stops nothing. Answers come in the order of the requests.

    With --output several processes share the list, and a job that was killed goes on where it stopped when it is
    started again: each process keeps its answers in a file beside the output, and the output is there when all are.
    Requests in a file that follow each other about one span of a video are answered together, and its frames decoded
    once.
    """
    parser = parser_for(ask_arguments)
    parser.add_argument("video", help="a file or address; a JSONL list of requests; or - for standard input")
    parser.add_argument("question", nargs="?", help="the question about a video")
    parser.add_argument("--candidates", nargs="+", help="answers to choose from")
    parser.add_argument("--model", default=CHECKPOINT, help="checkpoint: folder or hub name; default: %(default)s")
    parser.add_argument("--start", type=float, help="start of the span asked about, in seconds")
    parser.add_argument("--end", type=float, help="its end")
    parser.add_argument("--task", help="open_ended, multiple_choice or count; where the question leaves it open")
    parser.add_argument("--top_k", type=int, default=1, help="the most answers; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the request with its answers and scores as JSON")
    parser.add_argument("--output", type=Path, help="for a list: file of the answers, which a killed job goes on with")
    given = parser.parse_args(argv)
    given.is_list = given.video == "-" or (given.question is None and given.video.endswith(".jsonl"))
    in_requests = ("question", "candidates", "start", "end", "task")
    of_one = [name for name in in_requests if getattr(given, name) is not None]
    if given.top_k < 1:
        parser.error(f"--top_k, the number of answers, must be 1 or more; got {given.top_k}.")
    if given.is_list and of_one:
        parser.error(f"A list has {', '.join(of_one)} in its requests, not on the command line.")
    if not given.is_list and given.question is None:
        parser.error("There is no question: siasamrea ask VIDEO QUESTION.")
    if not given.is_list and given.output is not None:
        parser.error("--output is for a list of requests.")
    if given.is_list and given.video != "-" and not Path(given.video).is_file():
        parser.error(f"The list {given.video} does not exist.")
    if given.output is not None and given.output.resolve() == Path(given.video).resolve():
        parser.error("--output is the list itself. Choose another --output.")
    return given


__all__ = ["answer_lines", "main"]
