"""Two processes equal one, whatever each of them can read and knows; FSDP2 shards, saves and resumes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_small_data import train

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor


ANSWERS = ["cat", "dog"]  # "red" is not among them


@pytest.fixture
def run(
    tmp_path, small_data, tokenizer, tiny_config, gloo_pair
) -> Callable[..., tuple[dict, dict[str, torch.Tensor]]]:
    """Trains in one or two processes; returns the report and the weights that were saved."""
    processor = SiaSamReaProcessor(
        SiaSamReaVideoProcessor(size={"longest_edge": 64}, num_clips=3, frames_per_clip=2), tokenizer
    )
    torch.manual_seed(0)
    config = tiny_config(
        tasks=["open_ended", "multiple_choice", "count"],
        id2label=dict(enumerate(ANSWERS)),
    )
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")

    def start(processes: int, output: str, rows: str = "rows.jsonl", resume=None, evaluate_first=False, **arguments):
        answers = arguments.pop("answers", {})
        settings = {"start": str(tmp_path / "start"), "rows": str(small_data / rows), "answers": answers}
        settings |= {"resume": resume, "evaluate_first": evaluate_first}
        settings["arguments"] = {"output_dir": str(tmp_path / output)} | arguments
        report = train(settings) if processes == 1 else gloo_pair.run("train_small_data", "train", settings)[0]
        return report, load_file(tmp_path / output / "model.safetensors")

    return start


def steps(report: dict) -> list[dict]:
    return [logs for logs in report["log"] if "loss" in logs]


def keep_rows(small_data: Path, name: str, kept: Callable[[dict], bool]) -> str:
    rows = [json.loads(line) for line in (small_data / "rows.jsonl").read_text().splitlines()]
    (small_data / name).write_text("".join(json.dumps(row) + "\n" for row in rows if kept(row)))
    return name


# SGD shows the gradient itself; Adam would hide its scale.
SGD = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "weight_decay": 0.0}


@pytest.mark.parametrize("task", ["open", "choice", "count", ""])
def test_two_processes_train_and_answer_as_one(run, tmp_path, small_data, task):
    # A video of four cannot be read and, of open-ended answers, one of three is unknown: the halves are uneven.
    rows = keep_rows(small_data, "kept.jsonl", lambda row: row["question_id"].startswith(task))
    # An epoch has five steps at most: a row that the run never reaches is not skipped.
    arguments = SGD | {"max_steps": 5, "questions_per_video": 1}
    size = 4 if task == "open" else 2
    one, one_weights = run(1, "one", rows, per_device_train_batch_size=2 * size, **arguments)
    two, two_weights = run(2, "two", rows, per_device_train_batch_size=size, **arguments)
    for alone, together in zip(steps(one), steps(two), strict=True):
        assert alone.keys() == together.keys()
        for name in alone:
            assert together[name] == pytest.approx(alone[name], rel=2e-5, abs=1e-6), name
    for name, value in one_weights.items():
        torch.testing.assert_close(two_weights[name], value, rtol=1e-5, atol=2e-6, msg=name)
    # Each row is evaluated once, whoever reads it.
    for alone, together in zip(one["predictions"], two["predictions"], strict=True):
        assert together == pytest.approx(alone, abs=1e-4)
    for name in ("test_loss", "test_questions", "test_unreadable"):
        assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-5)
    for output in ("one", "two"):
        skipped = (tmp_path / output / "skipped_videos.jsonl").read_text().splitlines()
        assert len(skipped) == len(set(skipped)) == two["metrics"]["test_unreadable"]


@pytest.mark.parametrize("task", ["choice", "count"])
def test_rows_without_an_answer_weigh_the_same_in_two_processes(run, small_data, task):
    rows = keep_rows(
        small_data, f"{task}.jsonl", lambda row: row["question_id"].startswith(task) and row["video"] != "v2.mp4"
    )
    # Three rows and one of them again: in one of two processes there may be no answer at all.
    arguments = SGD | {"max_steps": 3, "answers": {f"{task}0": None, f"{task}3": None}}
    one, one_weights = run(1, "one", rows, per_device_train_batch_size=4, **arguments)
    two, two_weights = run(2, "two", rows, per_device_train_batch_size=2, **arguments)
    for alone, together in zip(steps(one), steps(two), strict=True):
        assert (
            alone.keys() == together.keys() and f"loss_gt/{'multiple_choice' if task == 'choice' else task}" in alone
        )
        for name in alone:
            assert together[name] == pytest.approx(alone[name], rel=2e-5, abs=1e-6), name
    for name, value in one_weights.items():
        torch.testing.assert_close(two_weights[name], value, rtol=1e-5, atol=2e-6, msg=name)


def test_accumulated_batches_of_two_processes_equal_one_batch(run, small_data):
    rows = keep_rows(small_data, "open.jsonl", lambda row: row["question_id"].startswith("open"))
    arguments = SGD | {"max_steps": 1, "questions_per_video": 1, "answers": {"open0-0": None, "open1-0": None}}
    one, one_weights = run(1, "one", rows, per_device_train_batch_size=12, **arguments)
    four, four_weights = run(2, "two", rows, per_device_train_batch_size=3, gradient_accumulation_steps=2, **arguments)
    assert steps(four)[0]["loss"] == pytest.approx(steps(one)[0]["loss"], rel=1e-5)
    for name, value in one_weights.items():
        torch.testing.assert_close(four_weights[name], value, rtol=1e-5, atol=2e-6, msg=name)


@pytest.mark.end_to_end
def test_fsdp2_shards_saves_and_resumes_with_the_same_losses(run, tmp_path):
    arguments = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1}
    whole, whole_weights = run(2, "whole", **arguments)
    sharded, sharded_weights = run(2, "sharded", fsdp=True, **arguments)
    assert not whole["shards"]
    local, full = sharded["shards"]["model.text_model.encoder.layer.0.attention.self.query.weight"]
    assert local == (full[0] // 2, full[1])
    assert len(sharded["shards"]) > 60
    losses = [logs["loss"] for logs in steps(whole)]
    assert [logs["loss"] for logs in steps(sharded)] == pytest.approx(losses, rel=1e-5)
    for name, value in whole_weights.items():
        torch.testing.assert_close(sharded_weights[name], value, rtol=1e-4, atol=1e-5, msg=name)

    # The checkpoint is whole, loads in one process, and carries the model's own code.
    checkpoint = tmp_path / "sharded" / "checkpoint-1"
    assert (checkpoint / "configuration_siasamrea.py").is_file() and not list(checkpoint.glob("_fsdp*"))
    assert SiaSamReaForVideoQuestionAnswering.from_pretrained(checkpoint).config.label2id == {"cat": 0, "dog": 1}
    resumed, resumed_weights = run(2, "resumed", resume=str(checkpoint), evaluate_first=True, fsdp=True, **arguments)
    assert [logs["loss"] for logs in steps(resumed)] == pytest.approx(losses, rel=1e-5)
    for name, value in sharded_weights.items():
        torch.testing.assert_close(resumed_weights[name], value, msg=name)


@pytest.mark.end_to_end
def test_fsdp2_in_half_precision(run):
    report, weights = run(2, "half", fsdp=True, bf16=True, max_steps=2, per_device_train_batch_size=2)
    assert len(report["shards"]) > 60 and all(value.dtype == torch.float32 for value in weights.values() if value.ndim)


def test_a_false_number_of_one_process_stops_both(run, small_data):
    rows = keep_rows(small_data, "count.jsonl", lambda row: row["question_id"] in ("count0", "count1"))
    with pytest.raises(RuntimeError) as raised:  # the square of this count is infinite, the gradient is not
        run(2, "out", rows, per_device_train_batch_size=1, max_steps=2, answers={"count1": 1e25}, max_grad_norm=0.0)
    assert str(raised.value).count("NonFiniteError: The numbers of training step 1 ") == 2
    assert str(raised.value).count("about " + str(small_data / "v1.mp4")) == 2
