"""`siasamrea ask`: a question about a video, or a list of requests. [`ask_arguments`] says what these are."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import Pipeline

from .answer_requests import ANSWER_FIELDS, answer_requests, parse_line, together, without_answers
from .checkpoint import CHECKPOINT, add_model_options, load_answerer
from .parser import parser_for
from .printing import one_line


OF_ONE = ("question", "candidates", "start", "end", "task")
SHOWN = 20  # answers of a vocabulary that are listed


def load(given: argparse.Namespace) -> Pipeline:
    r"""
    Loads the pipeline of the model on the command line, on the GPU where there is one.

    Raises:
        `ValueError`: If there is no such model.
    """
    if given.model == CHECKPOINT and not Path(CHECKPOINT).exists():
        raise ValueError(f"There is no {CHECKPOINT}: give --model, or make it by `siasamrea train quickstart`.")
    device = 0 if torch.cuda.is_available() else None
    return load_answerer(given.model, device, given.base_model, given.settings)


def read_requests(source: str) -> Iterator[dict[str, Any]]:
    """Reads the requests of a file or of standard input as they come; bytes that are no UTF-8 stay visible."""
    if source == "-":
        yield from _requests(sys.stdin.buffer)
        return
    with open(source, "rb") as file:
        yield from _requests(file)


def _requests(file: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in file:
        text = line.decode("utf-8-sig", errors="backslashreplace").strip()
        if text:
            yield parse_line(text)


def skip_answered(output: Path, requests: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    r"""
    Leaves out the requests whose answers are in the output, and drops half a last line, which a kill left.

    Args:
        output (`Path`): The file of answers; it may be missing.
        requests (`Iterator[dict]`): The requests, in the order of the answers.

    Raises:
        `ValueError`: If the file has anything but answers to these requests.
    """
    refusal = ValueError(f"{output} has other lines than answers to these requests. Choose another --output.")
    whole = 0  # bytes
    if output.exists():
        with open(output, "rb") as file:
            for line in file:
                request = next(requests, None)
                if request is None:
                    raise refusal
                if not line.endswith(b"\n"):
                    start = json.dumps(request)[:-1].encode()
                    if not start.startswith(line[: len(start)]):
                        raise refusal
                    requests = chain([request], requests)
                    break
                answer = parse_line(line.decode("utf-8", errors="backslashreplace"))
                if answer.keys().isdisjoint(ANSWER_FIELDS) or without_answers(answer) != without_answers(request):
                    raise refusal
                whole += len(line)
        os.truncate(output, whole)
    return requests


def answer_list(given: argparse.Namespace) -> None:
    r"""
    Answers a list of requests into a file, line by line in their order, after the answers that are there.

    Raises:
        `ValueError`: If the output has anything but answers to these requests.
    """
    output = Path(given.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    requests = skip_answered(output, read_requests(given.video))
    first = next(requests, None)
    if first is not None:
        answerer = load(given)
        with open(output, "a", encoding="utf-8") as file, tqdm(desc="Answering", unit="request") as progress:
            for some in together(chain([first], requests)):
                file.writelines(json.dumps(answer) + "\n" for answer in answer_requests(answerer, some, given.top_k))
                file.flush()
                progress.update(len(some))
    with open(output, encoding="utf-8") as file:
        errors = Counter(json.loads(line).get("error") for line in file)
    print_counts(given.output, errors.pop(None, 0), errors.total(), next(iter(errors), None))


def print_counts(output: str, answered: int, failed: int, first: str | None = None) -> None:
    r"""
    Says how many requests of a list were answered.

    Raises:
        `ValueError`: If none was.
    """
    what = f"{output}: {answered} requests have an answer, {failed} an error"
    what += "." if first is None else f"; the first: {first}"
    if failed and not answered:
        raise ValueError(what)
    print(one_line(what), file=sys.stderr)


def answer_one(given: argparse.Namespace) -> None:
    """Answers the question on the command line."""
    about = {name: getattr(given, name) for name in ("video", *OF_ONE) if getattr(given, name) is not None}
    answerer = load(given)
    answers = answerer(**about, top_k=given.top_k)
    if given.json:
        print(json.dumps(about | {"answer": answers[0]["answer"], "answers": answers}))
        return
    for answer in answers:
        score = f"\t{answer['score']:.3f}" if given.top_k > 1 and "score" in answer else ""
        print(f"{one_line(answer['answer'])}{score}")
    if answerer.model.config.model_type == "siasamrea":
        for hint in hints(answerer, given.question, is_open="score" in answers[0] and given.candidates is None):
            print(hint, file=sys.stderr)


def hints(answerer: Pipeline, question: str, is_open: bool) -> Iterator[str]:
    """Says which words of a question the model does not know, and which answers an open-ended one is chosen from."""
    unknown = answerer.processor.unknown_words(question)
    if unknown:
        yield one_line(f"The answer is uncertain: the model does not know the words {', '.join(unknown)}.")
    if is_open:
        answers = list(answerer.model.config.id2label.values())
        more = f", ... ({len(answers)} in all)" if len(answers) > SHOWN else ""
        yield one_line(f"The model chooses from the answers {', '.join(answers[:SHOWN])}{more}.")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    given = ask_arguments(argv)
    if given.engine == "ray":
        from .answer_dataset import answer_files

        counts = answer_files(given.video, given.output, given.model, given.top_k)
        print_counts(given.output, counts["answers"] - counts["errors"], counts["errors"])
    elif given.output is not None:
        answer_list(given)
    elif given.is_list:
        answerer = load(given)
        requests = read_requests(given.video)
        # Whoever writes to standard input may wait for an answer before the next request.
        for some in ([request] for request in requests) if given.video == "-" else together(requests):
            for answer in answer_requests(answerer, some, given.top_k):
                print(json.dumps(answer), flush=True)
    else:
        answer_one(given)


def ask_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Asks a model about a video, or answers a list of requests.

        siasamrea ask cat.mp4 "what does the cat do?" --model my-model
        siasamrea ask cat.mp4 "what is it?" --candidates "a cat" "a dog" --start 2 --end 7.5 --json
        siasamrea ask requests.jsonl --output answers.jsonl
        siasamrea ask requests.jsonl --output answers --engine ray

    A request is a JSON object on a line: video, question (or a list of them), and optionally candidates, start, end
    (seconds), task and question_id. Its answer is the same object with `answer` and `answers` (the best --top_k with
    their scores), or with `error`. A job that was killed goes on where it stopped when it is started again. Ray uses
    all GPUs or CPUs, of this machine or of the cluster at RAY_ADDRESS; it also reads parquet and writes a folder.
    """
    parser = parser_for(ask_arguments)
    parser.add_argument("video", help="a file or address; a list of requests; or - for standard input")
    parser.add_argument("question", nargs="?", help="the question about a video")
    parser.add_argument("--candidates", nargs="+", metavar="ANSWER", help="answers to choose from")
    parser.add_argument("--model", default=CHECKPOINT, help="folder or hub name; default: %(default)s")
    add_model_options(parser)
    parser.add_argument("--start", type=float, help="start of the part that is asked about, in seconds")
    parser.add_argument("--end", type=float, help="its end")
    parser.add_argument("--task", help="open_ended, multiple_choice or count")
    parser.add_argument("--top_k", type=int, default=1, help="most answers; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the request with its answers and scores as JSON")
    parser.add_argument("--output", help="for a list: file of the answers, with Ray a folder")
    parser.add_argument("--engine", choices=["ray"], help="for a list: Ray Data, on many processes or machines")
    given = parser.parse_args(argv)
    given.is_list = given.engine == "ray" or given.video == "-"
    given.is_list |= given.question is None and given.video.endswith(".jsonl")
    of_one = [name for name in OF_ONE if getattr(given, name) is not None]
    if given.top_k < 1:
        parser.error(f"--top_k, the number of answers, must be 1 or more; got {given.top_k}.")
    if given.is_list and of_one:
        parser.error(f"{of_one[0]} is not for a list, whose requests have their own.")
    if not given.is_list and given.question is None:
        parser.error("There is no question: siasamrea ask VIDEO QUESTION.")
    if not given.is_list and given.output is not None:
        parser.error("--output is for a list of requests.")
    if given.engine == "ray" and (given.output is None or given.video == "-"):
        parser.error("--engine ray needs a file of requests and --output, a folder.")
    if given.engine == "ray" and (given.base_model or given.settings):
        parser.error("--engine ray takes no --base_model and --settings: give them to `siasamrea merge` before.")
    is_file = given.video.endswith((".jsonl", ".parquet")) and "://" not in given.video
    if given.is_list and is_file and not Path(given.video).exists():
        parser.error(f"The list {given.video} does not exist.")
    if given.output is not None and Path(given.output).resolve() == Path(given.video).resolve():
        parser.error("--output is the list itself. Choose another --output.")
    return given


__all__ = ["main"]
