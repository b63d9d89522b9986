"""`siasamrea ask`: answers on standard output, and lists that a killed job goes on with."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.commands import ask, siasamrea_command


CHOICE = {"question": "what is the man doing ?", "candidates": ["cat", "dog", "jump"]}


@pytest.fixture(scope="module")
def model(tiny_config, tokenizer, tmp_path_factory) -> str:
    """A checkpoint with all three heads."""
    vocabulary = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    tasks, folder = ["open_ended", "multiple_choice", "count"], str(tmp_path_factory.mktemp("model"))
    SiaSamReaForVideoQuestionAnswering(tiny_config(tasks=tasks, **vocabulary)).save_pretrained(folder)
    video_processor = SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=2)
    SiaSamReaProcessor(video_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def requests(small_data) -> list[str]:
    """Lines of requests: good, of a broken video, and bad ones."""
    video = str(small_data / "v0.mp4")
    return [
        json.dumps({"video": video, **CHOICE, "question_id": "a"}),
        json.dumps({"video": str(small_data / "v2.mp4"), **CHOICE}),
        "{not json",
        json.dumps({"video": video, "question": ["what colour ?", "what is it ?"], "task": "open_ended"}),
        json.dumps({"video": video, "question": "how many times ?", "task": "count", "start": "1"}),
        json.dumps({"video": video, "quetsion": "what ?"}),
        json.dumps([1]),
        "[" * 100_000,
        "1" * 5_000,
        json.dumps({"video": video, "question": "\ud800 ?", "task": "open_ended"}),
        f'{{"video": "{video}", "question": "what ?", "start": {"1" * 4_000}, "task": "open_ended"}}',
        json.dumps({"video": video, "question": "what ?", "start": float("nan")}),
        json.dumps({"video": video, "question": "how many times ?", "task": "count"}),
    ]


def run(capsys, *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    try:
        code = siasamrea_command.main(list(argv))
    except SystemExit as stopped:
        code = stopped.code
    return code, *capsys.readouterr()


def test_a_question_gets_its_answer_on_standard_output(capsys, model, small_data):
    video = str(small_data / "v0.mp4")
    code, out, err = run(capsys, "ask", video, "what colour ?", "--task", "open_ended", "--model", model)
    assert code == 0 and out in ("cat\n", "dog\n")
    assert "does not know the words: colour" in err and "answers cat, dog." in err
    options = ["--candidates", "red", "blue", "--start", "0.25", "--end", "1", "--top_k", "2", "--model", model]
    code, out, _ = run(capsys, "ask", video, "what colour ?", *options)
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and {line[0] for line in lines} == {"red", "blue"} and float(lines[0][1]) >= float(lines[1][1])
    code, out, _ = run(capsys, "ask", video, "what colour ?", *options, "--json")
    answer = json.loads(out)
    assert answer["answer"] == lines[0][0] == answer["answers"][0]["answer"] and answer["start"] == 0.25


def test_bad_input_is_one_sentence(capsys, model, small_data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    video, broken = str(small_data / "v0.mp4"), str(small_data / "v2.mp4")
    unreadable = run(capsys, "ask", broken, "what ?", "--task", "open_ended", "--model", model)
    assert unreadable[:2] == (1, "") and broken in unreadable[2]
    for wrong, sentence in (
        ([], "the following arguments are required: video"),
        ([video], "There is no question"),
        ([video, "what ?", "--top_k", "0"], "--top_k must be 1 or more"),
        ([video, "what ?", "--start", "3", "--end", "2", "--model", model], "start"),
        ([video, "what ?", "--start", "nan", "--model", model], "start"),
        ([video, "what ?", "--model", "no/where/at/all"], "no/where/at/all"),
        ([video, "what ?", "--model", model], "task"),
        ([video, "what ?"], "siasamrea train quickstart"),
        ([video, "what ?", "--output", "x"], "--output is for a list"),
        (["-", "what ?"], "question is not for a list"),
        (["none.jsonl"], "The list none.jsonl does not exist"),
    ):
        code, out, err = run(capsys, "ask", *wrong)
        assert code == 2 and not out and len(err.splitlines()) == 1 and sentence in err, (wrong, err)


def check_answers(answers: list[dict], requests: list[str]) -> None:
    """The answers to `requests`, in their order, each with its request."""
    assert len(answers) == len(requests)
    assert answers[0]["question_id"] == "a" and answers[0]["answer"] in CHOICE["candidates"]
    assert "v2.mp4" in answers[1]["error"] and answers[1]["question"] == CHOICE["question"]
    assert answers[2]["request"] == "{not json" and "JSON object" in answers[2]["error"]
    assert len(answers[3]["answer"]) == 2 and len(answers[3]["answers"]) == 2
    assert "start" in answers[4]["error"] and "question" in answers[5]["error"] and answers[6]["request"] == [1]
    assert all("error" in answer for answer in answers[6:12])
    assert isinstance(answers[12]["answer"], int) and "value" in answers[12]["answers"][0]


def test_a_stream_of_requests_is_answered_line_by_line_whatever_a_line_holds(capsys, monkeypatch, model, requests):
    content = "\n".join([*requests, "", ""]).encode() + b'{"video": "\xff"}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, _ = run(capsys, "ask", "-", "--model", model)
    *answers, last = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and "error" in last
    check_answers(answers, requests)


def test_an_answer_is_there_before_the_next_request(monkeypatch, capsys):
    """A reader that waits for each answer gets it."""
    seen = []

    class Requests:
        buffer = iter(())

    def lines():
        for number in range(3):
            seen.append(len(capsys.readouterr().out.splitlines()))
            yield json.dumps({"video": f"{number}", "question": "?"}).encode() + b"\n"

    Requests.buffer = lines()
    monkeypatch.setattr(sys, "stdin", Requests)
    monkeypatch.setattr(ask, "load", lambda model: lambda request, top_k: [{"answer": "yes", "score": 1.0}])
    ask.main(["-"])
    assert seen == [0, 1, 1]


@pytest.fixture
def counting(monkeypatch) -> Callable[[int | None], list[str]]:
    """An answerer that notes the videos it is asked about, and can be made to die at one of them."""

    def make(dies_at: int | None = None) -> list[str]:
        asked = []

        def answerer(request, top_k):
            if len(asked) == dies_at:
                raise KeyboardInterrupt
            asked.append(request["video"])
            return [{"answer": request["video"].upper(), "score": 1.0}]

        monkeypatch.setattr(ask, "load", lambda model: answerer)
        return asked

    return make


def test_a_killed_list_goes_on_where_it_stopped(counting, tmp_path):
    lines = [json.dumps({"video": name, "question": "?", "start": float("nan")}) for name in "abcde"]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    output = tmp_path / "answers[1].jsonl"  # no pattern
    (tmp_path / "answers[1].jsonl.part0").write_text("mine")
    command = ["ask", str(tmp_path / "list.jsonl"), "--output", str(output)]
    asked = counting(dies_at=3)
    assert siasamrea_command.main(command) == 130 and asked == ["a", "b", "c"]
    whole = output.read_bytes()
    for cut in (10, 60):  # half a last line, also before its answer
        output.write_bytes(whole[:-cut])
        asked = counting(dies_at=1)
        assert siasamrea_command.main(command) == 130 and asked == ["c"] and output.read_bytes() == whole
    asked = counting()
    assert siasamrea_command.main(command) == 0 and asked == ["d", "e"]
    assert [json.loads(line)["answer"] for line in output.read_text().splitlines()] == list("ABCDE")
    assert (tmp_path / "answers[1].jsonl.part0").read_text() == "mine"
    # A line with an error is a request again.
    failed = [json.loads(line) | {"error": "gone"} for line in output.read_text().splitlines()[:2]]
    (tmp_path / "again.jsonl").write_text("".join(json.dumps(line) + "\n" for line in failed))
    asked = counting()
    again = [str(tmp_path / "again.jsonl"), "--output", str(tmp_path / "answered.jsonl")]
    assert siasamrea_command.main(["ask", *again]) == 0 and asked == ["a", "b"]
    assert "error" not in (tmp_path / "answered.jsonl").read_text()
    # What is complete is not done again; a longer list goes on; another list is refused.
    asked = counting()
    assert siasamrea_command.main(command) == 0 and not asked
    (tmp_path / "list.jsonl").write_text("\n".join([*lines, json.dumps({"video": "f", "question": "?"})]))
    assert siasamrea_command.main(command) == 0 and asked == ["f"]
    for others in (lines[::-1], lines[:3]):
        (tmp_path / "list.jsonl").write_text("\n".join(others))
        assert siasamrea_command.main(command) == 2


def test_a_file_that_holds_no_answers_is_left_as_it_is(counting, tmp_path, capsys):
    (tmp_path / "list.jsonl").write_text(json.dumps({"video": "a", "question": "?"}) + "\n")
    asked = counting()
    for content in (
        b"\x00\xd0\xff\nvideo",
        b"a text",
        b"{}",
        b"[1]\n",
        b"notes\n",
        b'{"video": "a", "question": "?"}\n',
    ):
        (tmp_path / "mine").write_bytes(content)
        code, _, err = run(capsys, "ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "mine"))
        assert code == 2 and "Choose another --output" in err and len(err.splitlines()) == 1
        assert (tmp_path / "mine").read_bytes() == content
    code, _, err = run(capsys, "ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "list.jsonl"))
    assert code == 2 and "--output is the list itself" in err
    code, _, err = run(capsys, "ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "mine" / "answers"))
    assert code == 2 and str(tmp_path / "mine") in err and len(err.splitlines()) == 1 and not asked


def test_requests_about_a_span_that_follow_each_other_are_answered_together(capsys, monkeypatch, model, small_data):
    """In a file; a wrong one among them costs the others nothing."""
    video, other = str(small_data / "v0.mp4"), str(small_data / "v1.mp4")
    asked = []
    load = ask.load

    def noting(model):
        answerer = load(model)
        return lambda of, top_k: asked.append(len(of) if isinstance(of, list) else 1) or answerer(of, top_k=top_k)

    monkeypatch.setattr(ask, "load", noting)
    requests = [{"video": name, "question": "what ?", "task": "open_ended"} for name in (video, video, other, other)]
    requests[3]["task"] = "captioning"
    requests += [{**requests[0], "start": 0.5}]
    for request in requests:
        request["video"] = Path(request["video"]).name
    (small_data / "list.jsonl").write_text("\n".join(map(json.dumps, requests)))
    code, out, _ = run(capsys, "ask", str(small_data / "list.jsonl"), "--model", model, "--videos", str(small_data))
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and asked == [2, 2, 1, 1, 1]
    assert ["error" in answer for answer in answers] == [False, False, False, True, False]
    assert [{name: answer[name] for name in request} for request, answer in zip(requests, answers)] == requests


def test_a_checkpoint_is_evaluated_without_training(capsys, model, small_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [str(small_data / "rows.jsonl"), "--videos", str(small_data), "--use_cpu"]
    code, out, _ = run(capsys, "evaluate", model, *rows)
    assert code == 0 and "multiple-choice, accuracy" in out and f"\n| {rows[0]} |" in out  # the name of the table
    report = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert set(report) == {"test"} and report["test"]["scores"]["questions"] == 20
    assert len((tmp_path / "evaluation" / "predictions.jsonl").read_text().splitlines()) == 20
    assert not (tmp_path / "evaluation" / "README.md").exists()
    for wrong, sentence in (
        ([*rows], "Which model?"),
        ([model, *rows, "--output_dir", model], "would be overwritten"),
        ([model], "There are no test rows"),
        ([str(tmp_path / "none"), *rows], "cannot be loaded"),
    ):
        code, _, err = run(capsys, "evaluate", *wrong)
        assert code == 2 and sentence in err.splitlines()[-1], (wrong, err)
