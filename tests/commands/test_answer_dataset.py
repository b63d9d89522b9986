"""Ray Data on two CPUs: an actor and the driver die, and each request has one answer, that of one process."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.commands.answer_requests import answer_requests, read_request
from modeling_siasamrea.commands.checkpoint import load_answerer


pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
pytest.importorskip("ray")

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


def test_an_actor_and_the_driver_die_and_each_request_has_the_answer_of_one_process(model, requests, start, tmp_path):
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
