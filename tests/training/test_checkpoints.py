"""A run resumes from its last whole checkpoint, whatever a kill or a full disk left of the one after it."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from gloo_pair import preloaded_processes
from safetensors.torch import load_file
from tiny_video_language_models import FAMILIES, tiny
from train_small_data import train_until_killed
from transformers import TrainerCallback

from modeling_siasamrea.training.checkpoints import (
    OutputFolderError,
    is_whole,
    last_whole_checkpoint,
    rename_saved_weights,
)


SAVING = {"save_strategy": "steps", "save_steps": 2, "warmup_steps": 0, "lr_scheduler_type": "constant"}


@pytest.fixture
def trained(make_trainer, tmp_path, tmp_path_factory) -> Path:
    """The folder of a run with whole checkpoints of the steps 2 and 4; it is trained once."""
    kept = tmp_path_factory.getbasetemp() / "trained"
    if not kept.is_dir():
        make_trainer(max_steps=4, **SAVING).train()
        shutil.copytree(tmp_path / "out", kept)
    return Path(shutil.copytree(kept, tmp_path / "out", dirs_exist_ok=True))


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def test_the_file_that_is_written_last_says_whether_a_checkpoint_is_whole(trained):
    whole, last = trained / "checkpoint-2", trained / "checkpoint-4"
    assert last_whole_checkpoint(trained) == str(last)
    cut(last / "trainer_state.json")
    assert last_whole_checkpoint(trained) == str(whole)
    (last / "trainer_state.json").unlink()
    assert last_whole_checkpoint(trained) == str(whole)


@pytest.mark.parametrize("steps", [4, 3])
def test_a_finished_run_trains_no_further(make_trainer, trained, caplog, steps):
    before = json.loads((trained / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
    again = make_trainer(max_steps=steps, **SAVING)
    output = again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4 and f"The run in {trained} is finished" in caplog.text
    losses = [logs["loss"] for logs in before if "loss" in logs]
    assert output.training_loss == output.metrics["train_loss"] == pytest.approx(sum(losses) / 4)
    saved = type(again.model).from_pretrained(trained / "checkpoint-4").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in again.model.state_dict().items())


def test_the_training_loss_of_a_resumed_run_is_that_of_all_its_steps(make_trainer, trained):
    straight = make_trainer(max_steps=6, output="straight", logging_steps=4, **SAVING | {"save_strategy": "no"})
    loss = straight.train().training_loss
    assert [logs["step"] for logs in straight.state.log_history if "loss" in logs] == [4, 6]  # the end is logged
    resumed = make_trainer(max_steps=6, **SAVING).train(resume_from_checkpoint=True)
    assert resumed.training_loss == pytest.approx(loss, rel=1e-5)


def test_the_oldest_checkpoint_is_deleted_by_its_step_when_the_clock_was_set_back(make_trainer, trained):
    ahead = time.time() + 3600
    for name in ("checkpoint-2", "checkpoint-4"):
        os.utime(trained / name, (ahead, ahead))
        ahead -= 60
    make_trainer(max_steps=8, save_total_limit=1, **SAVING).train(resume_from_checkpoint=True)
    assert [folder.name for folder in trained.glob("checkpoint-*")] == ["checkpoint-8"]


def test_a_folder_has_one_run(make_trainer, trained):
    with FileLock(trained / "_run.lock"), pytest.raises(OutputFolderError, match=f"Another run .* {trained}"):
        make_trainer(max_steps=1).train()
    make_trainer(max_steps=1).train()


def test_a_folder_that_cannot_be_made_is_named(make_trainer, trained):
    trainer = make_trainer(max_steps=1)
    trainer.args.output_dir = str(trained / "skipped_videos.jsonl" / "run")
    with pytest.raises(OutputFolderError, match=r"skipped_videos.jsonl/run cannot be written: Not a directory"):
        trainer.train()


def test_a_best_checkpoint_that_was_deleted_leaves_the_last_weights(make_trainer, tmp_path, caplog):
    class Deletes(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            if state.global_step == 4:
                shutil.rmtree(tmp_path / "out" / "checkpoint-2", ignore_errors=True)

    scores = iter([1.0, 0.0])
    settings = {"compute_metrics": lambda _: {"mine": next(scores)}, "callbacks": [Deletes()]}
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "save_total_limit": 1}
    best |= {"metric_for_best_model": "mine", "greater_is_better": True}
    trainer = make_trainer(max_steps=4, trainer=settings, **best, **SAVING)
    trainer.train()
    assert "checkpoint-2, is gone" in caplog.text
    saved = type(trainer.model).from_pretrained(tmp_path / "out" / "checkpoint-4").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in trainer.model.state_dict().items())


def test_there_may_be_no_checkpoint(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None and last_whole_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) is None


@pytest.mark.parametrize("wanted", [True, "checkpoint-4"])
def test_a_run_resumes_from_the_last_whole_checkpoint_and_says_so(make_trainer, trained, wanted, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_siasamrea.training.checkpoints.logger.warning", said.append)
    straight = make_trainer(max_steps=6, output="straight", **SAVING)
    straight.train()
    cut(trained / "checkpoint-4" / "trainer_state.json")
    resumed = make_trainer(max_steps=6, **SAVING)
    resumed.train(resume_from_checkpoint=wanted if wanted is True else str(trained / wanted))
    assert [logs["step"] for logs in resumed.state.log_history if "loss" in logs] == [1, 2, 3, 4, 5, 6]
    for name, value in straight.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value)
    assert any("checkpoint-4" in line for line in said)
    assert last_whole_checkpoint(trained) == str(trained / "checkpoint-6")


def test_nothing_whole_to_resume_from(make_trainer, trained):
    shutil.rmtree(trained / "checkpoint-2")
    (trained / "checkpoint-4" / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match="checkpoint-4 is missing or unfinished"):
        make_trainer(max_steps=5).train(resume_from_checkpoint=str(trained / "checkpoint-4"))
    anew = make_trainer(max_steps=1)
    anew.train(resume_from_checkpoint=True)
    assert anew.state.global_step == 1
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        make_trainer(output="empty").train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="checkpoint-9 is missing"):
        make_trainer().train(resume_from_checkpoint=str(trained / "checkpoint-9"))


def test_a_checkpoint_that_is_sharded_otherwise_is_refused(make_trainer, trained):
    last = trained / "checkpoint-4"
    (last / "optimizer.pt").rename(last / "optimizer.bin")
    with pytest.raises(ValueError, match="checkpoint-4 was saved with FSDP"):
        make_trainer(max_steps=5).train(resume_from_checkpoint=True)
    (last / "optimizer.bin").unlink()
    (last / "global_step4").mkdir()
    for rank in range(2):
        (last / "global_step4" / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    with pytest.raises(ValueError, match="checkpoint-4 is DeepSpeed.s for 2 processes; it cannot resume in 1"):
        make_trainer(max_steps=5).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_the_model_alone_is_whole(make_trainer):
    trainer = make_trainer(max_steps=2, save_only_model=True, **SAVING)
    trainer.train()
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-2"
    assert not (checkpoint / "optimizer.pt").exists() and is_whole(checkpoint)


def test_a_checkpoint_that_is_written_over_is_not_whole_meanwhile(make_trainer, trained, monkeypatch):
    trainer = make_trainer(max_steps=4, **SAVING)

    def full_disk(_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "_save_scaler", full_disk)
    with pytest.raises(OutputFolderError, match=f"{trained} .*No space left"):
        trainer.train()
    assert not is_whole(trained / "checkpoint-2")
    assert last_whole_checkpoint(trained) == str(trained / "checkpoint-4")


def test_the_best_checkpoint_is_found_where_the_run_was_moved_and_forgotten_when_it_is_gone(make_trainer, tmp_path):
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
    best |= {"metric_for_best_model": "mine", "greater_is_better": True} | SAVING
    scores = {"compute_metrics": lambda _: {"mine": 1.0}}
    make_trainer(max_steps=4, output="there", trainer=scores, **best).train()
    shutil.move(tmp_path / "there", tmp_path / "here")
    trainer = make_trainer(max_steps=4, output="here", trainer=scores, **best)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "here" / "checkpoint-2")
    shutil.rmtree(tmp_path / "here" / "checkpoint-2")
    trainer = make_trainer(max_steps=6, output="here", trainer=scores, **best)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.best_global_step == 6


def test_the_best_checkpoint_ends_the_run_also_where_it_has_other_names(make_trainer, tiny_dinov2, tmp_path):
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "learning_rate": 1e-2}
    best |= {"metric_for_best_model": "mine", "greater_is_better": True, "config": {"vision_config": tiny_dinov2}}
    best |= SAVING
    scores = iter([1.0, 0.0])
    trainer = make_trainer(max_steps=4, trainer={"compute_metrics": lambda _: {"mine": next(scores)}}, **best)
    trainer.train()
    assert trainer.state.best_global_step == 2
    saved = type(trainer.model).from_pretrained(tmp_path / "out" / "checkpoint-2").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_video_language_models_are_loaded_whole(family, tmp_path):
    trained, started = tiny(family)[0], tiny(family)[0]
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.125)
    trained.save_pretrained(tmp_path)
    started.register_load_state_dict_pre_hook(rename_saved_weights)
    started.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert all(torch.equal(started.state_dict()[name], value) for name, value in trained.state_dict().items())


def test_a_killed_run_goes_on_with_its_list_of_skipped_rows(make_trainer, trained):
    path = trained / "skipped_videos.jsonl"
    first = {"question_id": "open2-0", "video": "a\u2028b.mp4", "error": "x"}
    path.write_text(json.dumps(first, ensure_ascii=False) + "\n", encoding="utf-8")
    trainer = make_trainer(max_steps=20, **SAVING)
    trainer.train(resume_from_checkpoint=str(trained / "checkpoint-4"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert lines[0] == first
    names = ["choice2", "count2", "open2-0", "open2-1", "open2-2"]
    assert sorted(line["question_id"] for line in lines) == names
    assert trainer.state.log_history[-1]["skipped_questions"] == 5


def test_a_run_that_is_killed_while_it_saves_leaves_an_unfinished_checkpoint(make_trainer, tmp_path, small_data):
    start = make_trainer(max_steps=6, **SAVING)
    start.model.save_pretrained(tmp_path / "start")
    start.processing_class.save_pretrained(tmp_path / "start")
    settings = {"start": str(tmp_path / "start"), "rows": str(small_data / "rows.jsonl")}
    settings["arguments"] = {"output_dir": str(tmp_path / "out"), "max_steps": 6} | SAVING
    process = preloaded_processes().Process(target=train_until_killed, args=(settings,))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "out" / "checkpoint-4" / "model.safetensors").is_file()
    assert last_whole_checkpoint(tmp_path / "out") == str(tmp_path / "out" / "checkpoint-2")
