"""Processes that do not outlive the one that started them, also where a kill ended it that nothing can catch."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

from torch.multiprocessing import _prctl_pr_set_pdeathsig


def end_with_parent(*_: int) -> None:
    """
    Called in a worker, of a pool or of a data loader (with its number): from then on it ends when the process that
    started it is gone, whatever it is doing. A thread sees to it, which decoders do not keep waiting: they release the
    interpreter's lock.
    """
    threading.Thread(target=_end_when_ready, args=(multiprocessing.parent_process().sentinel,), daemon=True).start()


def _end_when_ready(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def end_with_launcher() -> None:
    """Called in a process of `torchrun`, or of a script: it gets SIGTERM when that dies (Linux only)."""
    _prctl_pr_set_pdeathsig(signal.SIGTERM)


__all__ = ["end_with_launcher", "end_with_parent"]
