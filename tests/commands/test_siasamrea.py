"""The command `siasamrea`: exit codes, what goes to which stream, and lists that a killed job goes on with."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.benchmarks import LOADERS
from modeling_siasamrea.commands import ask, siasamrea


CHOICE = {"question": "what is the man doing ?", "candidates": ["cat", "dog", "jump"]}


@pytest.fixture
def model(tiny_config, tokenizer, tmp_path) -> str:
    """A checkpoint with all three heads."""
    vocabulary = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    tasks = ["open_ended", "multiple_choice", "count"]
    SiaSamReaForVideoQuestionAnswering(tiny_config(tasks=tasks, **vocabulary)).save_pretrained(tmp_path / "model")
    video_processor = SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=2)
    SiaSamReaProcessor(video_processor, tokenizer).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


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
        json.dumps({"video": video, "question": "how many times ?", "task": "count"}),
    ]


def run(capsys, *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    try:
        code = siasamrea.main(list(argv))
    except SystemExit as stopped:
        code = stopped.code
    return code, *capsys.readouterr()


# Prints the exit code of each command line, and which of torch and Transformers were imported on the way.
LIGHT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import siasamrea
for argv in json.loads(sys.argv[2]):
    try:
        code = siasamrea.main(argv)
    except SystemExit as stopped:
        code = stopped.code
    print("code", code, [name for name in ("torch", "transformers") if name in sys.modules])
"""


def exit_codes_without_imports(*lines: list[str]) -> tuple[list[str], str, list[str]]:
    """What `LIGHT` prints of command lines, their other output, and the lines on standard error."""
    command = [sys.executable, "-c", LIGHT, str(Path(siasamrea.__file__).parent), json.dumps(lines)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    codes = [line for line in ran.stdout.splitlines() if line.startswith("code ")]
    return codes, ran.stdout, ran.stderr.splitlines()


def test_help_and_wrong_names_import_nothing_heavy():
    of_commands = [[name, "--help"] for name in siasamrea.ARGUMENTS]
    codes, out, err = exit_codes_without_imports(["--help"], ["trian"], [], *of_commands)
    assert codes == [f"code {code} []" for code in (0, 2, 2, *[0] * len(of_commands))]
    assert all(name in out for name in siasamrea.COMMANDS) and all(name in out for name in LOADERS)
    assert all(f"usage: siasamrea {name}" in out for name in siasamrea.ARGUMENTS)
    assert err == [
        "There is no command 'trian'; did you mean train?",
        f"There is no command; choose from {', '.join(siasamrea.COMMANDS)}.",
    ]
    # The others' arguments are a Trainer's.
    assert set(siasamrea.COMMANDS) - set(siasamrea.ARGUMENTS) == {"train", "train_vlm", "evaluate"}


def test_bad_usage_imports_nothing_heavy(tmp_path):
    lines = [[name, *("--nonsense", "1")[:count]] for name in siasamrea.ARGUMENTS for count in (1, 2)]
    lines += [
        ["ask"],
        ["ask", "v.mp4"],
        ["ask", "v.mp4", "what ?", "--start", "x"],
        ["check", "rows", "--workers", "0"],
    ]
    lines += [["check", "rows", "--videos", str(tmp_path / "none")], ["prepare", "a", "b", "--crf", "99"], ["convert"]]
    lines += [["demo", "--port", "x"], ["export", "a", "a"]]
    codes, _, err = exit_codes_without_imports(*lines)
    assert codes == ["code 2 []"] * len(lines) and len(err) == len(lines)


def test_an_answer_imports_nothing_that_it_does_not_need(model, small_data):
    seldom = "datasets pandas pyarrow evaluate peft gradio matplotlib sklearn timm onnx".split()
    ours = (
        "data_siasamrea trainer_siasamrea training_args_siasamrea benchmarks demo_siasamrea export_siasamrea".split()
    )
    names = " ".join([*seldom, *(f"modeling_siasamrea.{name}" for name in ours)])
    # Some versions of Transformers import a few of them by themselves.
    program = "import sys, torch; from transformers import AutoModel, Trainer, pipeline\n"
    program += "print(*[name for name in sys.argv[1].split() if name in sys.modules])\n"
    program += "from modeling_siasamrea.commands import siasamrea; code = siasamrea.main(sys.argv[2:])\n"
    program += "print(code, *[name for name in sys.argv[1].split() if name in sys.modules])"
    question = ["ask", str(small_data / "v0.mp4"), "what ?", "--task", "open_ended", "--model", model]
    ran = subprocess.run([sys.executable, "-c", program, names, *question], capture_output=True, text=True, check=True)
    by_transformers, _, with_answer = ran.stdout.splitlines()
    assert with_answer.split() == ["0", *by_transformers.split()]


def test_every_command_exists_and_tells_its_arguments(capsys):
    for name in siasamrea.COMMANDS:
        code, out, _ = run(capsys, name, "--help")
        assert code == 0 and f"usage: siasamrea {name}" in out


def test_bugs_keep_their_traceback():
    def bug(argv):
        raise KeyError("a bug")

    def elsewhere(argv):
        json.loads("{")  # a ValueError, but no sentence of ours

    with pytest.raises(KeyError):
        siasamrea.run_command(bug)
    with pytest.raises(ValueError):
        siasamrea.run_command(elsewhere)


def test_a_question_gets_its_answer_on_standard_output(capsys, model, small_data):
    video = str(small_data / "v0.mp4")
    code, out, _ = run(capsys, "ask", video, "what colour ?", "--task", "open_ended", "--model", model)
    assert code == 0 and out in ("cat\n", "dog\n")
    options = ["--candidates", "red", "blue", "--start", "0.25", "--end", "1", "--top_k", "2", "--model", model]
    code, out, _ = run(capsys, "ask", video, "what colour ?", *options)
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and {line[0] for line in lines} == {"red", "blue"} and float(lines[0][1]) >= float(lines[1][1])
    code, out, _ = run(capsys, "ask", video, "what colour ?", *options, "--json")
    answer = json.loads(out)
    assert answer["answer"] == lines[0][0] == answer["answers"][0]["answer"] and answer["start"] == 0.25


def test_bad_input_is_one_sentence(capsys, model, small_data):
    video, broken = str(small_data / "v0.mp4"), str(small_data / "v2.mp4")
    unreadable = run(capsys, "ask", broken, "what ?", "--task", "open_ended", "--model", model)
    assert unreadable[:2] == (1, "") and unreadable[2].splitlines()[-1].startswith(f"Cannot read the video {broken}")
    for wrong, sentence in (
        ([], "the following arguments are required: video"),
        ([video], "There is no question"),
        ([video, "what ?", "--top_k", "0"], "--top_k, the number of answers, must be 1 or more; got 0"),
        ([video, "what ?", "--start", "3", "--end", "2"], "end must be after start"),
        ([video, "what ?", "--start", "nan"], "start must be a time"),
        ([video, "what ?", "--start", "soon"], "invalid float value: 'soon'"),
        ([video, "what ?", "--modle", "x"], "unrecognized arguments: --modle x"),
        (
            [video, "what ?", "--model", "no/where/at/all"],
            "The checkpoint no/where/at/all cannot be loaded: there is no such folder",
        ),
        ([video, "what ?", "--model", model], "say which by task"),
        ([video, "what ?", "--output", "x"], "--output is for a list"),
        (["-", "what ?"], "A list has question in its requests"),
        (["none.jsonl"], "The list none.jsonl does not exist"),
    ):
        code, out, err = run(capsys, "ask", *wrong)
        said = [line for line in err.splitlines() if line and "Loading weights" not in line]
        assert code == 2 and not out and len(said) == 1 and sentence in said[0], (wrong, err)


def test_without_a_model_it_tells_how_to_make_one(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "ask", "v.mp4", "what ?")
    assert code == 2 and "siasamrea train quickstart" in err


def check_answers(answers: list[dict], requests: list[str]) -> None:
    """The answers to `requests`, in their order, each with its request."""
    assert len(answers) == len(requests)
    assert answers[0]["question_id"] == "a" and answers[0]["answer"] in CHOICE["candidates"]
    assert answers[1]["error"].startswith("Cannot read the video") and answers[1]["question"] == CHOICE["question"]
    assert answers[2]["request"] == "{not json" and "must be a JSON object on one line" in answers[2]["error"]
    assert len(answers[3]["answer"]) == 2 and len(answers[3]["answers"]) == 2
    assert answers[4]["error"] == "The request's start cannot be '1'."
    assert "quetsion (did you mean question?)" in answers[5]["error"]
    assert answers[6]["request"] == [1] and "error" in answers[6]
    assert isinstance(answers[7]["answer"], int) and "value" in answers[7]["answers"][0]


def test_a_stream_of_requests_is_answered_line_by_line(capsys, monkeypatch, model, requests):
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
    monkeypatch.setattr(
        ask, "load_answerer", lambda model: lambda requests, top_k: [[{"answer": "yes", "score": 1.0}]]
    )
    ask.main(["-"])
    assert seen == [0, 1, 1]


@pytest.fixture
def counting(monkeypatch) -> Callable[[int | None], list[str]]:
    """An answerer that notes the videos it is asked about, and can be made to die at one of them."""

    def make(dies_at: int | None = None) -> list[str]:
        asked = []

        def answerer(requests, top_k):
            if len(asked) == dies_at:
                raise KeyboardInterrupt
            asked.extend(request["video"] for request in requests)
            return [[{"answer": request["video"].upper(), "score": 1.0}] for request in requests]

        monkeypatch.setattr(ask, "load_answerer", lambda model: answerer)
        return asked

    return make


def test_a_killed_list_goes_on_where_it_stopped(counting, tmp_path):
    lines = [json.dumps({"video": name, "question": "?"}) for name in "abcde"]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    output = tmp_path / "answers.jsonl"
    command = ["ask", str(tmp_path / "list.jsonl"), "--output", str(output)]
    asked = counting(dies_at=3)
    assert siasamrea.main(command) == 130 and asked == ["a", "b", "c"]
    part = tmp_path / "answers.jsonl.part0"
    whole = part.read_bytes()
    assert not output.exists() and len(whole.splitlines()) == 3
    part.write_bytes(whole[:-10])  # half a last line
    asked = counting()
    assert siasamrea.main(command) == 0 and asked == ["c", "d", "e"]
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["answer"] for answer in answers] == list("ABCDE") and not part.exists()
    # What is complete is not done again; a longer list goes on; another list is refused.
    asked = counting()
    assert siasamrea.main(command) == 0 and not asked
    (tmp_path / "list.jsonl").write_text("\n".join([*lines, json.dumps({"video": "f", "question": "?"})]))
    assert siasamrea.main(command) == 0 and asked == ["f"]
    (tmp_path / "list.jsonl").write_text("\n".join(reversed(lines)))
    assert siasamrea.main(command) == 2


def test_a_file_that_holds_no_answers_is_left_as_it_is(counting, tmp_path, capsys):
    (tmp_path / "list.jsonl").write_text(json.dumps({"video": "a", "question": "?"}) + "\n")
    asked = counting()
    for content in (b"\x00\xd0\xff\nvideo", b"a text", b"{}", b"[1]\n", b"notes\n"):
        (tmp_path / "mine").write_bytes(content)
        code, _, err = run(capsys, "ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "mine"))
        assert code == 2 and "Choose another --output" in err and len(err.splitlines()) == 1
        assert (tmp_path / "mine").read_bytes() == content
    code, _, err = run(capsys, "ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "list.jsonl"))
    assert code == 2 and "--output is the list itself" in err
    code, _, err = run(capsys, "ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "mine" / "answers"))
    assert code == 2 and "cannot be written" in err and len(err.splitlines()) == 1 and not asked


def test_the_answers_of_other_numbers_of_processes_count(counting, tmp_path):
    lines = [json.dumps({"video": name, "question": "?"}) for name in "abcd"]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    answer = {"video": "d", "question": "?", "answer": "D", "answers": []}
    (tmp_path / "out.jsonl.part7").write_text(json.dumps([3, answer]) + "\n")
    asked = counting()
    assert siasamrea.main(["ask", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / "out.jsonl")]) == 0
    answers = [json.loads(line)["answer"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert asked == ["a", "b", "c"] and answers == list("ABCD")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.jsonl", "out.jsonl"]


def test_two_processes_share_a_list(model, requests, tmp_path):
    output = tmp_path / "answers.jsonl"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "modeling_siasamrea", "ask", "-", "--model", model, "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    text = "\n".join(requests)
    subprocess.run(command, check=True, env=environment, input=text, text=True, capture_output=True, timeout=300)
    check_answers([json.loads(line) for line in output.read_text().splitlines()], requests)
    assert not list(tmp_path.glob("answers.jsonl.*"))


def test_a_checkpoint_is_evaluated_without_training(capsys, model, small_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["--test_file", str(small_data / "rows.jsonl"), "--video_folder", str(small_data), "--use_cpu"]
    code, out, _ = run(capsys, "evaluate", model, *rows)
    assert code == 0 and "open_ended_accuracy" in out
    report = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert set(report) == {"test"} and report["test"]["scores"]["questions"] == 20
    assert len((tmp_path / "evaluation" / "predictions.jsonl").read_text().splitlines()) == 20
    assert not (tmp_path / "evaluation" / "README.md").exists()
    for wrong, sentence in (
        ([*rows], "Which checkpoint?"),
        ([model, *rows, "--output_dir", model], "would be overwritten"),
        ([model], "There are no test rows"),
        ([str(tmp_path / "none"), *rows], "cannot be loaded"),
    ):
        code, _, err = run(capsys, "evaluate", *wrong)
        assert code == 2 and sentence in err.splitlines()[-1], (wrong, err)


def test_requests_about_a_span_that_follow_each_other_are_answered_together(capsys, monkeypatch, model, small_data):
    """In a file; a wrong one among them costs the others nothing."""
    video, other = str(small_data / "v0.mp4"), str(small_data / "v1.mp4")
    asked = []
    load_answerer = ask.load_answerer

    def load(model):
        answerer = load_answerer(model)
        return lambda requests, top_k: asked.append(len(requests)) or answerer(requests, top_k=top_k)

    monkeypatch.setattr(ask, "load_answerer", load)
    requests = [{"video": name, "question": "what ?", "task": "open_ended"} for name in (video, video, other, other)]
    requests[3]["task"] = "captioning"
    requests += [{**requests[0], "start": 0.5}]
    (small_data / "list.jsonl").write_text("\n".join(map(json.dumps, requests)))
    code, out, _ = run(capsys, "ask", str(small_data / "list.jsonl"), "--model", model)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and asked == [2, 2, 1, 1, 1]
    assert ["error" in answer for answer in answers] == [False, False, False, True, False]
    assert [{name: answer[name] for name in request} for request, answer in zip(requests, answers)] == requests


def test_an_exported_programme_answers_as_the_model(capsys, model, small_data, tmp_path):
    exported = tmp_path / "exported"
    code, out, _ = run(capsys, "export", model, str(exported), "--task", "multiple_choice")
    assert code == 0 and out == f"{exported / 'model.pt2'}\n"
    inputs = SiaSamReaProcessor.from_pretrained(exported)(
        videos=str(small_data / "v0.mp4"),
        text=[CHOICE["question"]],
        candidates=[CHOICE["candidates"]],
        video_index=[0],
        return_tensors="pt",
    )
    logits = SiaSamReaForVideoQuestionAnswering.from_pretrained(model)(**inputs, task="multiple_choice").logits
    torch.testing.assert_close(torch.export.load(out.strip()).module()(**inputs), logits, atol=1e-6, rtol=1e-5)
    for wrong, sentence in (
        ([model, str(exported)], "An exported programme has one head"),
        ([model, model], "needs a folder of its own"),
        ([str(tmp_path / "none"), str(exported)], "none cannot be loaded: there is no such folder"),
        ([str(tmp_path), str(exported)], "cannot be loaded"),
    ):
        code, out, err = run(capsys, "export", *wrong)
        said = [line for line in err.splitlines() if line and "Loading weights" not in line]
        assert code == 2 and not out and len(said) == 1 and sentence in said[0], (wrong, err)


def test_bad_usage_of_each_command_is_one_sentence(capsys):
    for name in siasamrea.COMMANDS:
        code, out, err = run(capsys, name, "--nonsense", "1")
        assert code == 2 and not out and len(err.splitlines()) == 1, (name, err)
