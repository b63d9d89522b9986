"""A loader worker that dies is named by its video; none outlives its run."""

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
from train_small_data import train

decode = video_processing_siasamrea.decode_frames

def slow(video, *arguments, **options):
    import os
    from torch.utils.data import get_worker_info
    if get_worker_info() is not None:
        for process in (os.getpid(), os.getppid()):
            open({notes!r} + "/" + str(process), "w").close()
        time.sleep(600)
    return decode(video, *arguments, **options)

video_processing_siasamrea.decode_frames = slow
train({settings!r})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.end_to_end
def test_no_process_outlives_a_killed_launcher(make_trainer, tmp_path, small_data):
    """The launcher's process gets a signal from the system, and the workers of the data loader watch that process."""
    trainer = make_trainer()
    for part in (trainer.model, trainer.processing_class):
        part.save_pretrained(tmp_path / "start")
    notes = tmp_path / "notes"
    notes.mkdir()
    settings = {"start": str(tmp_path / "start"), "rows": str(small_data / "rows.jsonl")}
    settings["arguments"] = {"output_dir": str(tmp_path / "out"), "max_steps": 5} | WORKERS
    names = {"tests": str(Path(__file__).parents[1]), "notes": str(notes), "settings": settings}
    (tmp_path / "sleeper.py").write_text(SLEEPER.format(**names))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1", "--standalone"]
    run = subprocess.Popen([*launcher, tmp_path / "sleeper.py"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: len(list(notes.iterdir())) == 3, 300)
        processes = [int(note.name) for note in notes.iterdir()]
        assert all(map(lives, processes))
    finally:
        run.kill()
        run.wait(60)
    assert wait_for(lambda: not any(map(lives, processes)), 10)
