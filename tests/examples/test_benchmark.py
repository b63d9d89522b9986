"""The speed script at tiny sizes: what it compares is the same work, and a busy machine gets no report."""

import importlib
import os
import platform
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.commands.process import SET_BY_USERS


TINY_TEXT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_TEXT |= {"intermediate_size": 48, "vocab_size": 200, "max_position_embeddings": 128}
TINY_VISION = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1]}


@pytest.fixture
def parts(monkeypatch, example):
    """Imports a module of `examples/benchmark_parts`, or the script itself."""
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "..", "examples"))
    return lambda name: example(name) if name == "benchmark" else importlib.import_module(f"benchmark_parts.{name}")


@pytest.fixture
def measuring(parts):
    return parts("measuring")


@pytest.fixture
def model(parts, monkeypatch, tiny_config):
    """The rows about the model, with a tiny one."""
    module = parts("model")

    def tiny(**fields):
        torch.manual_seed(0)
        sizes = {"text_config": TINY_TEXT, "tasks": ["open_ended", "multiple_choice"], "num_labels": 1000}
        return SiaSamReaForVideoQuestionAnswering(tiny_config(**(sizes | fields))).to(module.DEVICE)

    monkeypatch.setattr(module, "resnet50_bert_base", tiny)
    return module


def test_works_are_run_in_turn_and_compared_within_their_turn(measuring):
    order, seconds = [], iter([9.0, 9.0, 1.0, 2.0, 2.0, 6.0, 4.0, 4.0])

    def measure(name):
        return lambda: order.append(name) or next(seconds)

    (row,) = measuring.compare(3, "work", measure("ours"), {"the other": measure("theirs")}, "a note")
    assert order == ["ours", "theirs"] * 4  # the first turn is the warm-up
    assert (row.ours, row.theirs) == ([1.0, 2.0, 4.0], [2.0, 6.0, 4.0])
    assert row.ratios == [2.0, 3.0, 1.0] and row.times == 0.5
    assert measuring.table([row]).splitlines()[-1] == (
        "| work | 2.000 (1.000–4.000) s | the other | 4.000 (2.000–6.000) s | 2.00 (1.00–3.00) | a note |"
    )


def test_what_was_measured_is_described(measuring):
    text = measuring.describe_machine(5)
    for part in ("siasamrea 0.", "torch 2", "transformers 5", "av 1", "Python 3.", "cores", "threads", "of 5 runs"):
        assert part in text, part
    assert measuring.processor_name() in text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell a load average alone")
def test_the_work_of_others_is_seen(measuring, monkeypatch):
    monkeypatch.setattr(measuring, "MOST_BY_OTHERS", 0.1 / os.cpu_count())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            with pytest.raises(SystemExit, match=r"^Other processes kept \d+\.\d+ of the \d+ cores busy meanwhile"):
                with measuring.quiet_machine("meanwhile"):
                    time.sleep(1)
        finally:
            other.kill()


def test_own_work_and_that_of_own_processes_is_no_one_elses(measuring, monkeypatch):
    code = "import time\nwhile time.process_time() < 0.4: pass"
    extra = 0.0
    monkeypatch.setattr(measuring.sys, "platform", "linux")
    monkeypatch.setattr(measuring, "busy_seconds", lambda: sum(os.times()[:4]) + extra)
    with measuring.quiet_machine("meanwhile"):
        subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(SystemExit), measuring.quiet_machine("meanwhile"):
        subprocess.run([sys.executable, "-c", code], check=True)
        extra = 100.0


def test_a_busy_machine_gets_no_report(parts, measuring, monkeypatch, capsys):
    benchmark, busy = parts("benchmark"), [False]
    row = measuring.Row("work", "other", [1.0], [2.0])

    def busy_part(repeats):
        """Busy."""
        busy[0] = True
        return [row]

    def quiet_part(repeats):
        """Quiet."""
        return [row] * repeats

    clock = iter(range(1, 1000))
    monkeypatch.setattr(benchmark.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(measuring.sys, "platform", "linux")
    monkeypatch.setattr(measuring, "own_seconds", lambda: 0.0)
    monkeypatch.setattr(measuring, "busy_seconds", lambda: 1000.0 * next(clock) if busy[0] else 0.0)
    monkeypatch.setattr(benchmark, "PARTS", {"quiet": quiet_part, "busy": busy_part})
    benchmark.main(["quiet", "--repeats", "2"])
    assert capsys.readouterr().out.count("| work | 1.000") == 2
    with pytest.raises(SystemExit, match="busy during the part busy"):
        benchmark.main(["busy"])
    assert "| work |" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="busy before the measurement"):
        benchmark.main(["quiet"])
    assert capsys.readouterr().out == ""


def test_a_part_that_does_not_exist_is_refused(parts, capsys):
    with pytest.raises(SystemExit):
        parts("benchmark").main(["inferences"])
    assert "there is no part inferences; choose from inference, " in capsys.readouterr().err


def test_without_the_fast_paths_the_weights_are_the_same(model):
    ours, plain = model.resnet50_bert_base().eval(), model.without_fast_paths().eval()
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), plain.state_dict().values()))
    assert not {type(module).__name__ for module in plain.modules()} & {
        "OneDnnLinear",
        "FoldedConvolution",
        "FoldedBatchNorm",
    }
    batch = model.make_batch(64)
    model.check_same(ours, batch, plain, model.pad_text(batch, 100))
    with torch.no_grad():
        plain.heads["open_ended"][-1].bias += 1e-3
    with pytest.raises(AssertionError):
        model.check_same(ours, batch, plain, model.pad_text(batch, 100))


def test_rows_of_inference(model):
    rows = model.inference(1, sizes=(64,))
    besides = [row.beside for row in rows if row.what == "inference, 64 px, 4 questions a video"]
    assert besides == ["Transformers' ResNet and BERT alone", "the video encoded anew for each question"]
    assert len(rows) == 3 * 2 + 1 and all(len(row.ours) == len(row.theirs) == 1 for row in rows)
    assert len(model.fast_paths(1, (64,))) == 4 and len(model.growth(1, 64)) == 6
    assert len(model.packed_weights(1, (64,))) == 2


def test_operations_are_counted(model):
    network, batch = model.resnet50_bert_base().eval(), model.make_batch(64, videos=1)
    linear = torch.nn.Linear(384, 10)
    model.run_wide_linears_by_onednn(linear)
    assert model.operations_of(lambda: linear(torch.zeros(5, 384))) == 2 * 5 * 384 * 10
    with torch.inference_mode():
        operations = model.operations_of(lambda: network(**batch))
    rows = model.peak(1, (64,), width=400, channels=4)
    assert {row.note for row in rows} == {f"{operations / 1e9:.0f} GFLOP"} and len(rows) == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
def test_memory_is_given_back_in_every_second_process(model, monkeypatch):
    settings = []

    def here(function, *arguments):
        settings.append(os.environ.get("GLIBC_TUNABLES"))
        return function(*arguments)

    monkeypatch.setattr(model, "in_new_process", here)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    rows = model.memory_reuse(2, (64,))
    assert [len(row.ours) for row in rows] == [len(row.theirs) for row in rows] == [2, 2]
    assert settings == [None, "glibc.malloc.perturb=0"] * 2
    assert "GLIBC_TUNABLES" in SET_BY_USERS


def test_encoding_anew_answers_the_same_questions(model):
    network, batch = model.resnet50_bert_base().eval(), model.make_batch(64, questions_per_video=3, videos=2)
    with torch.inference_mode():
        anew = [network(**one).logits for one in model.encode_each_question_anew(batch)]
        together = network(**batch).logits
    torch.testing.assert_close(torch.stack(anew, dim=1).flatten(0, 1), together, atol=1e-5, rtol=1e-5)


def test_rows_of_training(model):
    assert len(model.training(1, cases=((64, 1), (64, 2)))) == 4
    *rows, in_bfloat16 = model.siamese(1, 64, numbers=(2, 9))
    assert in_bfloat16.what == "siamese training step, N = 9, siamese clips in bfloat16"
    assert [row.note.split("; ")[1] for row in rows] == ["the arithmetic is 1.33", "the arithmetic is 3.67"]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory_is_of_the_process_that_worked(model):
    assert 0 < model.peak_of(training=True, fast=False, size=64) < 64
    assert model.in_new_process(model.peak_memory) < 4


def test_rows_of_reading(parts, monkeypatch):
    data = parts("data")
    monkeypatch.setattr(data, "in_new_process", lambda function, *arguments: function(*arguments))
    rows = data.reading(1, shapes=((4, 64, 48),), side=64)
    assert len(rows) == 2 * 3 and rows[-1].what == "training item, 9 × 8 frames of 4 s, 48p, at 64"
    assert len(data.prepared(1, shape=(2, 64, 48))) == 1


def test_clips_read_one_by_one_are_resized_as_the_processor_does_it(parts, tmp_path):
    data = parts("data")
    data.write_video(tmp_path / "v.mp4", 2, 64, 48)
    indices = np.array([[3, 9], [20, 44]])
    resized = torch.stack(data.resize_each_clip(tmp_path / "v.mp4", indices, 96))
    processor = data.SiaSamReaVideoProcessor(
        size={"longest_edge": 96}, antialias=False, round_frames=False, do_rescale=False, do_normalize=False
    )
    frames = torch.from_numpy(np.stack(data.read_each_clip(tmp_path / "v.mp4", indices[:1])))[0]
    processor.frames_per_clip = 2
    expected = processor([frames[[0, 1]].numpy()], return_tensors="pt")["pixel_values_videos"]
    assert resized.shape == (2, 2, 3, 96, 96) and not resized[..., 72:, :].any()
    assert (resized[0] - expected[0, 0]).abs().max() <= 1


def test_rows_of_loading_and_training_together(parts, capsys):
    data = parts("data")
    run = data.QUICKSTART_RUN | {"data": {"train_videos": 6}, "steps": 3}
    run["batch"] = {"per_device_train_batch_size": 2}
    rows = data.together(1, {"a tiny run": run})
    assert capsys.readouterr().out == ""  # beside the tables
    assert [row.what for row in rows[::2]] == [
        "a step of a tiny run, loaded by one worker",
        "a step of a tiny run, loaded by no worker",
    ]
    assert all(value > 0 for row in rows for value in (*row.ours, *row.theirs))
    assert all(whole > part for whole, part in zip(rows[0].theirs, rows[1].theirs))
    assert len(data.uint8_frames(1, run)) == 1


def test_the_first_answer_is_one(parts, tmp_path):
    data = parts("data")
    printed = data.run_python(data.ANSWER, *data.model_and_video(tmp_path))
    assert "'answer'" in printed and "'score'" in printed
