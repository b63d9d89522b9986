"""A loader worker that dies is named by its video; none outlives its run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from other_processes import lives, wait_for

from modeling_siasamrea.data import workers
from modeling_siasamrea.data.workers import LoaderWorkerError
from modeling_siasamrea.processors import video_processing_siasamrea


@pytest.fixture
def deadly_v1(monkeypatch) -> None:
    """Decoding v1.mp4 kills its process, as a fault in a decoder does."""
    decode = video_processing_siasamrea.decode_frames

    def decode_or_die(video, *arguments, **options):
        if "v1.mp4" in str(video):
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(video, *arguments, **options)

    monkeypatch.setattr(video_processing_siasamrea, "decode_frames", decode_or_die)


WORKERS = {"dataloader_num_workers": 2, "dataloader_multiprocessing_context": "fork", "dataloader_prefetch_factor": 1}


@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_the_video_of_a_worker_that_dies_is_named(make_trainer, deadly_v1, small_data, what):
    trainer = make_trainer(per_device_train_batch_size=2, per_device_eval_batch_size=1, max_steps=20, **WORKERS)
    with pytest.raises(LoaderWorkerError) as raised:
        getattr(trainer, what)()
    sentence = str(raised.value)
    assert f"died while it read {small_data / 'v1.mp4'}" in sentence
    assert "`siasamrea check`" in sentence and "--skip_list" in sentence and "--dataloader_num_workers" in sentence


@pytest.mark.end_to_end
def test_little_shared_memory_is_said_before_workers_start_and_a_full_one_ends_the_run(
    make_trainer, monkeypatch, caplog
):
    monkeypatch.setattr(workers, "LITTLE_SHARED_MEMORY", 2**60)
    trainer = make_trainer(max_steps=1, **WORKERS)
    trainer.get_train_dataloader()
    assert "/dev/shm has" in caplog.text and "--shm-size" in caplog.text

    def full(value):
        raise RuntimeError("unable to write to file </torch_1>: No space left on device (28); /dev/shm")

    monkeypatch.setattr(workers, "_share", full)
    with pytest.raises(LoaderWorkerError, match="/dev/shm.* is full"):
        trainer.train()


SLEEPER = """
import sys, time
sys.path.insert(0, {tests!r})
from modeling_siasamrea.processors import video_processing_siasamrea
from train_small_data import main

decode = video_processing_siasamrea.decode_frames

def slow(video, *arguments, **options):
    from torch.utils.data import get_worker_info
    if get_worker_info() is not None:
        open({notes!r} + "/" + str(__import__("os").getpid()), "w").close()
        time.sleep(600)
    return decode(video, *arguments, **options)

video_processing_siasamrea.decode_frames = slow
main({settings!r})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize(
    ("launcher", "kill"),
    [
        ([], signal.SIGKILL),
        (["-m", "torch.distributed.run", "--nproc_per_node", "1", "--standalone"], signal.SIGTERM),
    ],
)
@pytest.mark.end_to_end
def test_no_worker_outlives_a_killed_run(make_trainer, tmp_path, small_data, launcher, kill):
    start, notes = tmp_path / "start", tmp_path / "notes"
    trainer = make_trainer()
    trainer.model.save_pretrained(start)
    trainer.processing_class.save_pretrained(start)
    notes.mkdir()
    settings = {"start": str(start), "rows": str(small_data / "rows.jsonl")}
    settings["arguments"] = {"output_dir": str(tmp_path / "out"), "max_steps": 5} | WORKERS
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    names = {"tests": str(Path(__file__).parents[1]), "notes": str(notes), "settings": str(tmp_path / "settings.json")}
    (tmp_path / "sleeper.py").write_text(SLEEPER.format(**names))
    command = [sys.executable, *launcher, str(tmp_path / "sleeper.py")]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: len(list(notes.iterdir())) == 2, 120)
        workers = [int(note.name) for note in notes.iterdir()]
        assert all(map(lives, workers))
    finally:
        run.send_signal(kill)
        run.wait(60)
    assert wait_for(lambda: not any(map(lives, workers)), 10)


WAITING = """
import os, sys, time
from modeling_siasamrea import SiaSamReaTrainingArguments

SiaSamReaTrainingArguments(output_dir=sys.argv[1], use_cpu=True)
open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.end_to_end
def test_a_launcher_that_is_killed_before_training_leaves_no_process_that_waits(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    run = subprocess.Popen([*command, str(tmp_path / "waiting.py"), str(tmp_path / "out")], stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: len(list((tmp_path / "out").iterdir())) == 2, 120)
        ranks = [int(note.name) for note in (tmp_path / "out").iterdir()]
        assert all(map(lives, ranks))
    finally:
        run.kill()
        run.wait(60)
    assert wait_for(lambda: not any(map(lives, ranks)), 10)
