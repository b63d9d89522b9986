"""Loader workers that die: which videos they had in hand."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset, get_worker_info
from transformers import TrainingArguments

from .worker_processes import end_with_parent


class LoaderWorkerError(RuntimeError):
    """Raised when a worker process of the data loader died, of a decoder's fault or for want of memory."""


def worker_settings(args: TrainingArguments) -> dict[str, Any]:
    """What a `DataLoader` is told about its workers."""
    return {
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory,
        "persistent_workers": args.dataloader_persistent_workers,
        "prefetch_factor": args.dataloader_prefetch_factor,
        "multiprocessing_context": args.dataloader_multiprocessing_context,
        "worker_init_fn": end_with_parent,
    }


def take_in_hand(folder: Path | None, video: str) -> None:
    """Notes in `folder` the video that this worker process turns to; a worker that dies leaves its note behind."""
    if folder is not None and get_worker_info() is not None:
        (folder / str(os.getpid())).write_bytes(os.fsencode(video))


@contextmanager
def naming_dead_workers(dataset: Dataset | None) -> Iterator[None]:
    r"""
    A context in which the death of a loader worker raises an error that names the videos it had in hand.

    Args:
        dataset ([`VideoQuestionDataset`], *optional*): The data set that the workers read.

    Raises:
        [`LoaderWorkerError`]: Instead of PyTorch's error, which names a process number only.
    """
    if dataset is None:
        yield
        return
    before = dataset.in_hand  # an evaluation within training may read the same data set
    with tempfile.TemporaryDirectory(prefix="siasamrea-workers-", ignore_cleanup_errors=True) as folder:
        dataset.in_hand = Path(folder)
        try:
            yield
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or isinstance(error, LoaderWorkerError):
                raise
            raise LoaderWorkerError(_sentence(Path(folder), str(error))) from error
        finally:
            dataset.in_hand = before


def _sentence(folder: Path, error: str) -> str:
    """What died, with which videos in hand, and what to do."""
    processes = [
        number for numbers in re.findall(r"pid(?:\(s\))?:? ([\d, ]+)", error) for number in numbers.split(",")
    ]
    notes = [folder / number.strip() for number in processes]
    videos = [os.fsdecode(note.read_bytes()) for note in notes if note.is_file()]
    with_what = f"with {' and '.join(videos)} in hand" if videos else "before its first video"
    return (
        f"A worker process of the data loader died {with_what} ({error}). If a decoder crashed on the video, "
        "`siasamrea check` finds such files and writes a list for --skip_list; if memory ran out, use fewer "
        "workers (--dataloader_num_workers) or 0 to read in the main process."
    )


__all__ = ["LoaderWorkerError", "naming_dead_workers", "take_in_hand", "worker_settings"]
