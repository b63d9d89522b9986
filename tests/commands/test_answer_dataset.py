"""Answers by Ray: what its workers do, and on two CPUs that die, that each request has the answer of one process."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import datasets
import numpy as np
import psutil
import pytest
from pyarrow import parquet

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.commands import answer_dataset, ask
from modeling_siasamrea.commands.answer_requests import answer_requests, parse_line
from modeling_siasamrea.commands.checkpoint import load_answerer


QUESTIONS = 60  # about each video


@pytest.fixture(scope="module")
def folder_of_ray() -> Iterator[str]:
    """A folder of Ray's own: the address of a cluster that a test kills must not stay where others look for it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a short path, because sockets are in it
        yield folder


@pytest.fixture(scope="module")
def cluster(folder_of_ray) -> Iterator[psutil.Process]:
    """A Ray cluster of two CPUs, at RAY_ADDRESS."""
    ray = pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # On a busy machine Ray's workers start slowly; those that take long would be replaced, again and again.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
    environment |= {"RAY_worker_register_timeout_seconds": "600", "RAY_TMPDIR": folder_of_ray}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    head = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TMPDIR", folder_of_ray)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        wait_for(lambda: is_open(port))
        yield head
        ray.shutdown()
    for process in [*head.children(recursive=True), head]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what):
    """Waits until something is true, and returns it."""
    began = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - began < 300
        time.sleep(0.05)
    return found


def actors(cluster: psutil.Process) -> list[psutil.Process]:
    """The processes that answer."""
    found = []
    for process in cluster.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or a zombie
            if "_Answerer" in " ".join(process.cmdline()):
                found.append(process)
    return found


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
def hold(tmp_path) -> Path:
    """A file that, while it is there, keeps the actors from answering about v3.mp4."""
    return tmp_path / "hold"


@pytest.fixture
def echo(monkeypatch, hold) -> Callable:
    """Has the actors repeat the question, which takes no model and a moment; returns what answers."""

    def answerer(request: dict | list[dict], top_k: int) -> list:
        requests = request if isinstance(request, list) else [request]
        if any("v2.mp4" in one.get("video", "v2.mp4") for one in requests):
            raise ValueError("there is no such 'video'")
        time.sleep(0.05)
        while "v3.mp4" in requests[0]["video"] and hold.exists():
            time.sleep(0.05)
        answers = [[{"answer": f"{one['video']}: {one['question']}", "score": 1.0}] for one in requests]
        return answers if isinstance(request, list) else answers[0]

    class _Answerer(answer_dataset._Answerer):  # local, so that it is sent to the actors as a whole
        def __init__(self, model: str, top_k: int, videos: str | None):
            self.answerer, self.settings = answerer, (top_k, videos)

    monkeypatch.setattr(answer_dataset, "_Answerer", _Answerer)
    return answerer


def answers_in(folder: Path) -> Counter:
    """The answers in a folder as text, their scores rounded: questions that are answered together round otherwise."""
    if list(folder.glob("*.parquet")):
        lines = [line for path in folder.iterdir() for line in parquet.read_table(path)["text"].to_pylist()]
    else:
        lines = [line for path in folder.glob("answers-*") for line in path.read_text().splitlines()]
    return Counter(map(as_text, map(json.loads, lines)))


def as_text(answer: dict) -> str:
    for one in answer.get("answers", ()):
        one["score"] = round(one["score"], 4)
    return json.dumps(answer, sort_keys=True)


@pytest.mark.end_to_end
def test_an_actor_and_the_driver_die_and_each_request_has_one_answer(cluster, echo, hold, model, requests, tmp_path):
    source, output = tmp_path / "requests.jsonl", tmp_path / "answers"
    source.write_text("\n".join(requests))
    hold.touch()
    arguments = str(source), output, model, 1, None, 1  # one actor
    driver = multiprocessing.get_context("fork").Process(target=answer_dataset.answer_files, args=arguments)
    driver.start()
    wait_for(lambda: list(output.glob("answers-*")) if driver.is_alive() else pytest.fail("the driver ended"))
    driver.kill()
    driver.join()
    wait_for(lambda: not actors(cluster))
    before = sorted(output.glob("answers-*"))
    assert 0 < answers_in(output).total() < len(requests)
    hold.unlink()

    killer = Thread(target=lambda: wait_for(lambda: actors(cluster))[0].kill())
    killer.start()
    counts = answer_dataset.answer_files(*arguments)
    killer.join()
    expected = [answer_requests(echo, [parse_line(line)], 1)[0] for line in requests]
    assert counts == {"answers": len(requests), "errors": QUESTIONS + 2}
    assert answers_in(output) == Counter(map(as_text, expected)) and set(before) <= set(output.glob("answers-*"))


@pytest.mark.end_to_end
def test_parquet_is_answered_without_a_cluster_as_by_one_process(model, small_data, folder_of_ray, tmp_path):
    pytest.importorskip("ray")
    rows = [{"video": f"v{number}.mp4", "question": "what is it ?"} for number in (0, 1, 2)]
    rows[0] |= {"candidates": ["cat", "dog"], "start": 0.25}
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "requests.parquet")
    (Path(folder_of_ray) / "ray").mkdir(exist_ok=True)
    (Path(folder_of_ray) / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")  # of one that was killed
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder_of_ray}
    command = [sys.executable, "-m", "modeling_siasamrea", "ask", str(tmp_path / "requests.parquet")]
    command += ["--engine", "ray", "--output", str(tmp_path / "answers")]
    command += ["--model", model, "--videos", str(small_data)]
    subprocess.run(command, env=environment, check=True, timeout=300)
    expected = [answer_requests(load_answerer(model), [row], 1, str(small_data))[0] for row in rows]
    answers = answers_in(tmp_path / "answers")
    assert answers == Counter(map(as_text, expected)) and "v2.mp4" in expected[2]["error"]


@pytest.mark.end_to_end
def test_a_data_set_is_answered_into_parquet(cluster, echo, model, tmp_path, capsys):
    rows = [{"video": f"{name}.mp4", "question": "?", "start": start} for name, start in (("a", 1.5), ("b", None))]
    (tmp_path / "corpus").mkdir()
    datasets.Dataset.from_list(rows).to_csv(tmp_path / "corpus" / "train.csv")
    output = tmp_path / "answers"
    ask.main([str(tmp_path / "corpus"), "--engine", "ray", "--output", str(output), "--model", model])
    assert capsys.readouterr().err.endswith(": answers: 2, errors: 0.\n")
    answers = [row for file in output.glob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    assert sorted(row["answer"] for row in answers) == ["a.mp4: ?", "b.mp4: ?"]
    assert sorted(json.loads(row["text"]).get("start", 0) for row in answers) == [0, 1.5]


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
    worker.answerer, worker.settings = answerer, (1, None)
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
        assert answer_dataset._write(block, tmp_path.as_uri(), ending) == {"written": [3]}
    (of_lines,), (of_parquet,) = tmp_path.glob("*.jsonl"), tmp_path.glob("*.parquet")
    assert of_lines.read_text().splitlines() == first["text"] == parquet.read_table(of_parquet)["text"].to_pylist()
