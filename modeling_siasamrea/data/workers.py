"""Worker processes: they end with the process that started them; if one dies, the video that it read is named."""

import ctypes
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, get_worker_info
from transformers import TrainingArguments
from transformers.utils import logging


logger = logging.get_logger(__name__)

MOST_WORKERS = 1024  # of one loader
SHARED_MEMORY = Path("/dev/shm")
LITTLE_SHARED_MEMORY = 2**28  # bytes
PR_SET_PDEATHSIG = 1  # of prctl, from linux/prctl.h


class LoaderWorkerError(RuntimeError):
    """Raised when a worker process of the data loader died, because a decoder crashed or memory ran out."""


def worker_settings(args: TrainingArguments) -> dict[str, Any]:
    """Returns the settings of a `DataLoader`'s workers; warns if the shared memory for batches is small."""
    if args.dataloader_num_workers and SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        if free < LITTLE_SHARED_MEMORY:
            logger.warning(
                f"{SHARED_MEMORY} has {free >> 20} MB free for batches of the workers, and a run stops if they do not "
                "fit: give the container more (docker run --shm-size=8g), or use --dataloader_num_workers 0."
            )
    names = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "multiprocessing_context")
    return {name: getattr(args, f"dataloader_{name}") for name in names} | {"worker_init_fn": end_with_parent}


def collate_in_shared_memory(collate: Callable[[list], Any], items: list) -> Any:
    """
    Makes a batch and, in a worker, moves it to shared memory. PyTorch would do that in a thread: if the memory were
    full, the thread's error would be lost, and the main process would wait forever.
    """
    batch = collate(items)
    if get_worker_info() is not None:
        _share(batch)
    return batch


def _share(value: Any) -> None:
    """Moves all tensors in a batch to shared memory."""
    if isinstance(value, torch.Tensor):
        value.share_memory_()
    elif isinstance(value, Mapping):
        _share(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            _share(part)
    elif is_dataclass(value):
        _share(vars(value))


def note_row(notes: torch.Tensor | None, row: int) -> None:
    """Notes the row whose video this worker process reads next, so that it is known if the process dies."""
    worker = get_worker_info()
    if notes is not None and worker is not None:
        notes[worker.id] = torch.tensor([os.getpid(), row])


@contextmanager
def naming_dead_workers(dataset: Dataset) -> Iterator[None]:
    r"""
    Raises an error that names the video if a loader worker dies while it reads one.

    Args:
        dataset ([`VideoQuestionDataset`]): The data set that the workers read.

    Raises:
        [`LoaderWorkerError`]: Instead of PyTorch's error, which gives only the number of the process.
    """
    before = dataset.notes  # an evaluation within training may read the same data set
    try:
        dataset.notes = torch.full((MOST_WORKERS, 2), -1).share_memory_()  # process and row
        yield
    except RuntimeError as error:
        said = str(error)
        if "shared memory" in said or "/dev/shm" in said:
            raise LoaderWorkerError(
                f"{SHARED_MEMORY}, which holds batches of the workers, is full: give the container more (docker run "
                "--shm-size=8g), or use --dataloader_num_workers 0."
            ) from error
        if "DataLoader worker" not in said or isinstance(error, LoaderWorkerError):
            raise
        processes = set(map(int, re.findall(r"\d+", said)))
        videos = [dataset.questions[row].video for process, row in dataset.notes.tolist() if process in processes]
        when = f"while it read {' and '.join(videos)}" if videos else "before its first video"
        raise LoaderWorkerError(
            f"A worker process of the data loader died {when} ({said}). If a decoder crashed on the video, "
            "`siasamrea check` finds such files and writes a list for --skip_list; if memory ran out, use fewer "
            "workers (--dataloader_num_workers) or 0 to read in the main process."
        ) from error
    finally:
        dataset.notes = before


def end_with_parent(*_: int) -> None:
    """
    Ends a worker of a pool or data loader, which calls this first, when its parent process is gone. A thread waits
    for that; decoders do not block it, because they release the interpreter's lock.
    """
    sentinel = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: wait([sentinel]) and os._exit(1), daemon=True).start()


def end_with_launcher() -> None:
    """Has the system send SIGTERM to this process when its launcher, such as `torchrun`, dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
