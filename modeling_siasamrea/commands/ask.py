"""`siasamrea ask`: a question about a video, or a list of requests. [`ask_arguments`] says what these are."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import Pipeline

from ..configuration_siasamrea import TASKS
from .answer_requests import answer_requests, fields_of, parse_line, together
from .checkpoint import CHECKPOINT, add_model_options, load_answerer
from .parser import one_or_more, parser_for
from .printing import one_line


OF_ONE = ("question", "candidates", "start", "end", "task")
SHOWN = 20  # answers of a vocabulary that are listed


def load(given: argparse.Namespace) -> Pipeline:
    """Loads the pipeline of the model on the command line."""
    return load_answerer(given.model, given.base_model, given.settings)


def read_requests(source: str) -> Iterator[dict[str, Any]]:
    """Reads the requests of a file or of standard input as they come; bytes that are no UTF-8 stay visible."""
    with nullcontext(sys.stdin.buffer) if source == "-" else open(source, "rb") as file:
        for line in file:
            text = line.decode("utf-8-sig", errors="backslashreplace").strip()
            if text:
                yield parse_line(text)


def skip_answered(output: Path, requests: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    r"""
    Leaves out the requests whose answers are in the output, and drops half a last line, which a kill left.

    Args:
        output (`Path`): The file of answers; it is made if it is missing.
        requests (`Iterator[dict]`): The requests, in the order of the answers.

    Raises:
        `ValueError`: If the file has anything but answers to these requests.
    """
    whole = 0  # bytes
    with open(output, "ab+") as file:
        file.seek(0)
        for line in file:
            request, is_whole = next(requests, None), line.endswith(b"\n")
            begin = json.dumps(request)[:-1].encode()
            is_answer = line[len(begin) :].startswith((b', "answer": ', b', "error": ', b'"error": '))
            if line[: len(begin)] != begin[: len(line)] or (is_whole and not is_answer):
                raise ValueError(f"{output} has other lines than answers to these requests. Choose another --output.")
            if not is_whole:
                requests = chain([request], requests)
                break
            whole += len(line)
        file.truncate(whole)
    return requests


def answer_list(given: argparse.Namespace) -> None:
    """Answers a list of requests into a file, line by line in their order, after the answers that are there."""
    output = Path(given.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    requests = skip_answered(output, read_requests(given.video))
    first = next(requests, None)
    if first is not None:
        answerer = load(given)
        with open(output, "a", encoding="utf-8") as file, tqdm(desc="Answering", unit="request") as progress:
            for some in together(chain([first], requests)):
                answers = answer_requests(answerer, some, given.top_k, given.videos)
                file.writelines(json.dumps(answer) + "\n" for answer in answers)
                file.flush()
                progress.update(len(some))
    with open(output, encoding="utf-8") as file:
        errors = Counter(json.loads(line).get("error") for line in file)
    print_counts(given.output, errors.pop(None, 0), errors.total(), next(iter(errors), None))


def print_counts(output: str, answered: int, failed: int, first: str | None = None) -> None:
    r"""
    Says how many requests of a list were answered, and how the others are asked again.

    Raises:
        `ValueError`: If none was answered.
    """
    what = f"{output}: answers: {answered}, errors: {failed}"
    what += "." if first is None else f"; the first: {first}"
    if failed and not answered:
        raise ValueError(what)
    print(one_line(what), file=sys.stderr)
    if failed:
        print("The lines with an error are requests, too: mend them and ask them again, see --help.", file=sys.stderr)


def answer_one(given: argparse.Namespace) -> None:
    """Answers the question on the command line."""
    about = {name: getattr(given, name) for name in ("video", *OF_ONE) if getattr(given, name) is not None}
    answerer = load(given)
    answers = answerer(fields_of(about, given.videos), top_k=given.top_k)
    if given.json:
        print(json.dumps(about | {"answer": answers[0]["answer"], "answers": answers}))
    else:
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
        yield one_line(f"The answer is uncertain: the model does not know the words: {', '.join(unknown)}.")
    if is_open:
        answers = list(answerer.model.config.id2label.values())
        more = f", ... ({len(answers)} in all)" if len(answers) > SHOWN else ""
        yield one_line(f"The model chooses from the answers {', '.join(answers[:SHOWN])}{more}.")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    given = ask_arguments(argv)
    if given.engine == "ray":
        from .answer_dataset import answer_files

        counts = answer_files(given.video, given.output, given.model, given.top_k, given.videos)
        print_counts(given.output, counts["answers"] - counts["errors"], counts["errors"])
    elif given.output is not None:
        answer_list(given)
    elif given.question is None:
        answerer = load(given)
        requests = read_requests(given.video)
        # Whoever writes to standard input may wait for an answer before the next request.
        for some in ([request] for request in requests) if given.video == "-" else together(requests):
            for answer in answer_requests(answerer, some, given.top_k, given.videos):
                print(json.dumps(answer), flush=True)
    else:
        answer_one(given)


def ask_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Asks a model about a video, or answers a list of requests.

        siasamrea ask cat.mp4 "what is it?" --candidates "a cat" "a dog" --start 2 --end 7.5 --model my-model
        siasamrea ask requests.jsonl --output answers.jsonl
        siasamrea ask requests.jsonl --output answers --engine ray
        grep '"error":' answers.jsonl > failed.jsonl     # then mend them, and ask with the same options

    A request is a JSON object on a line: video, question (or a list of them), and optionally candidates, start, end
    (seconds), task and question_id. Its answer is the same object with `answer` and `answers` (the best --top_k with
    their scores), or with `error`; a line with an error is a request, too. A job that was killed goes on where it
    stopped when it is started again. The exit code of a list is 0 if any request has an answer. Ray uses all GPUs or
    CPUs, of this machine or of the cluster at RAY_ADDRESS; it also reads parquet and writes a folder.
    """
    parser = parser_for(ask_arguments)
    parser.add_argument("video", help="a file or address; a list; or - for standard input")
    parser.add_argument("question", nargs="?", help="the question about a video")
    parser.add_argument("--candidates", nargs="+", metavar="ANSWER", help="answers to choose from")
    parser.add_argument("--model", default=CHECKPOINT, help="folder or hub name; default: %(default)s")
    add_model_options(parser)
    parser.add_argument("--videos", help="folder that relative paths of videos start from")
    parser.add_argument("--start", type=float, help="start of the part that is asked about, in seconds")
    parser.add_argument("--end", type=float, help="its end")
    parser.add_argument("--task", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--top_k", type=one_or_more, default=1, help="most answers; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the request with its answers and scores as JSON")
    parser.add_argument("--output", help="for a list: file of the answers, with Ray a folder")
    parser.add_argument("--engine", choices=["ray"], help="for a list: Ray Data, on many processes or machines")
    given = parser.parse_args(argv)
    with_ray, is_stream = given.engine == "ray", given.video == "-"
    is_list = with_ray or is_stream or (given.question is None and given.video.endswith(".jsonl"))
    of_one = next((name for name in OF_ONE if getattr(given, name) is not None), None)
    is_file = given.video.endswith((".jsonl", ".parquet")) and "://" not in given.video
    output = given.output and Path(given.output).resolve()
    for is_wrong, sentence in (
        (is_list and of_one, f"{of_one} is not for a list, whose requests have their own."),
        (not is_list and given.question is None, "There is no question: siasamrea ask VIDEO QUESTION."),
        (not is_list and output, "--output is for a list of requests."),
        (with_ray and (is_stream or not output), "--engine ray needs a file of requests and --output, a folder."),
        (with_ray and (given.base_model or given.settings), "--engine ray needs a whole model: see siasamrea merge."),
        (is_list and is_file and not Path(given.video).exists(), f"The list {given.video} does not exist."),
        (output == Path(given.video).resolve(), "--output is the list itself. Choose another --output."),
    ):
        if is_wrong:
            parser.error(sentence)
    return given
