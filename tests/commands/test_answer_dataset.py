"""Answers by Ray: what its workers do, and on two CPUs that die, that each request has the answer of one process."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from pyarrow import parquet

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.commands import answer_dataset
from modeling_siasamrea.commands.answer_requests import answer_requests, read_request
from modeling_siasamrea.commands.checkpoint import load_answerer


QUESTIONS = 60  # about each video
# Ray makes a cluster of two CPUs; its own sockets need a short path.
DRIVER = """
import sys, ray
ray.init(num_cpus=2, include_dashboard=False, logging_level="warning", log_to_driver=False)
from modeling_siasamrea.commands.answer_dataset import answer_files
print(dict(answer_files(sys.argv[1], sys.argv[2], sys.argv[3])), flush=True)
"""


@pytest.fixture
def model(tiny_config, processor, tmp_path) -> str:
    vocabulary = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    config = tiny_config(tasks=["open_ended", "multiple_choice"], **vocabulary)
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def requests(small_data) -> list[str]:
    """Requests about four videos, one of which is damaged, in mixed order; with broken ones and equal ones."""
    lines = ["{not json", json.dumps([1]), json.dumps({"video": "none.mp4", "question": "what ?"})]
    for number in range(QUESTIONS):
        for video in range(4):
            request = {"video": str(small_data / f"v{video}.mp4"), "question": f"what is {number // 2} ?"}
            request |= {"candidates": ["cat", "dog"]} if number % 3 else {"task": "open_ended"}
            lines.append(json.dumps(request | ({"question_id": f"{video}-{number}"} if number % 5 else {})))
    return lines


@pytest.fixture
def start() -> Iterator[Callable[[Path, Path, str], subprocess.Popen]]:
    """Starts a driver; none outlives the test."""
    started = []

    def run(source: Path, output: Path, model: str) -> subprocess.Popen:
        started.append(start_driver(source, output, model))
        return started[-1]

    yield run
    for driver in started:
        if driver.poll() is None:
            kill(driver)


def kill(driver: subprocess.Popen) -> None:
    """Kills a driver and all that it started, as a machine that fails does."""
    for process in [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()


def start_driver(source: Path, output: Path, model: str) -> subprocess.Popen:
    # On a busy machine Ray's workers start slowly; those that take long would be replaced, again and again.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    environment |= {"RAY_worker_register_timeout_seconds": "600"}
    command = [sys.executable, "-c", DRIVER, str(source), str(output), model]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def files(output: Path) -> list[Path]:
    return sorted(output.glob("answers-*.jsonl"))


def wait_for(what, driver: subprocess.Popen):
    """Waits until something is true while the driver runs."""
    began = time.monotonic()
    while not (found := what()):
        assert driver.poll() is None and time.monotonic() - began < 900
        time.sleep(0.02)
    return found


def actors(driver: subprocess.Popen) -> list[psutil.Process]:
    """The processes of the driver's actors that answer."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or a zombie
            if "_Answerer" in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.ray
def test_an_actor_and_the_driver_die_and_each_request_has_the_answer_of_one_process(model, requests, start, tmp_path):
    pytest.importorskip("ray")
    source, output = tmp_path / "requests.jsonl", tmp_path / "answers"
    source.write_text("\n".join(requests))
    driver = start(source, output, model)
    wait_for(lambda: files(output), driver)
    kill(driver)
    before = files(output)
    answered = sum(len(path.read_text().splitlines()) for path in before)
    assert 0 < answered < len(requests)

    driver = start(source, output, model)
    victim = wait_for(lambda: actors(driver), driver)[0]
    victim.kill()
    out, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0

    answerer = load_answerer(model)
    expected = [answer_requests(answerer, [read_request(line)], 1)[0] for line in requests]
    answers = [json.loads(line) for path in files(output) for line in path.read_text().splitlines()]
    errors = sum("error" in answer for answer in answers)
    assert out.splitlines()[-1] == str({"answers": len(requests), "errors": errors}) and errors == QUESTIONS + 3
    assert set(before) <= set(files(output))

    def texts(of: list[dict]) -> Counter:
        """Answers as text, scores rounded, because questions that are answered together round otherwise."""
        for answer in of:
            for one in answer.get("answers", ()):
                one["score"] = round(one["score"], 4)
        return Counter(json.dumps(answer, sort_keys=True) for answer in of)

    assert texts(answers) == texts(expected)


def test_requests_are_lines_or_columns_and_none_is_left_out():
    text = {"text": np.array(['{"video": "a", "question": "?"}', " ", "{broken"], dtype=object)}
    lines = answer_dataset._request_lines(text, answered=False)
    assert lines["video"] == ["'a'", "None"] and lines["answered"] == [False, False]
    assert json.loads(lines["line"][1]) == {"request": "{broken"}
    columns = {"video": ["a", "b"], "question": ["?", None], "start": [1.5, float("nan")]}
    columns["candidates"] = [np.array(["x", "y"], dtype=object), None]
    batch = {name: np.array(values, dtype=object) for name, values in columns.items()}
    first, second = map(json.loads, answer_dataset._request_lines(batch, answered=False)["line"])
    assert first == {"video": "a", "question": "?", "start": 1.5, "candidates": ["x", "y"]} and second == {
        "video": "b"
    }


def test_of_equal_requests_as_many_are_answered_as_lack_an_answer(tmp_path):
    asked = []

    def answerer(request, top_k):
        requests = request if isinstance(request, list) else [request]
        asked.extend(one["video"] for one in requests)
        answers = [[{"answer": one["video"].upper(), "score": 1.0}] for one in requests]
        return answers if isinstance(request, list) else answers[0]

    worker = object.__new__(answer_dataset._Answerer)
    worker.answerer, worker.top_k = answerer, 1
    requests = {"text": np.array([json.dumps({"video": name, "question": "?"}) for name in "abaab"], dtype=object)}
    lines = answer_dataset._request_lines(requests, answered=False)
    (first, second) = worker({name: np.array(values, dtype=object) for name, values in lines.items()})
    assert asked == ["a", "a", "a", "b", "b"] and first["answer"] == ["A"] * 3 and second["video"] == ["b"] * 2
    assert json.loads(first["text"][0]) == {
        "video": "a",
        "question": "?",
        "answer": "A",
        "answers": [{"answer": "A", "score": 1.0}],
    }
    # Two of the answers are there already.
    done = answer_dataset._request_lines(
        {"text": np.array([first["text"][0], second["text"][0]], dtype=object)}, answered=True
    )
    asked.clear()
    list(worker({name: np.array(lines[name] + done[name], dtype=object) for name in lines}))
    assert asked == ["a", "a", "b"]
    # A block has one name, whoever writes it, and both formats hold the lines.
    block = {name: np.array(values, dtype=object) for name, values in first.items()}
    for ending in ("jsonl", "parquet", "jsonl"):
        counts = answer_dataset._write(block, tmp_path.as_uri(), ending)
        assert counts == {"answers": [3], "errors": [0]}
    (of_lines,), (of_parquet,) = tmp_path.glob("*.jsonl"), tmp_path.glob("*.parquet")
    assert of_lines.read_text().splitlines() == first["text"] == parquet.read_table(of_parquet)["text"].to_pylist()
