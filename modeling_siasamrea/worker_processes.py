"""Worker processes that do not outlive the process that started them."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Called in a worker: from then on it ends, whatever it is doing, when the process that started it is gone."""
    threading.Thread(target=_end_when_ready, args=(multiprocessing.parent_process().sentinel,), daemon=True).start()


def _end_when_ready(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


__all__ = ["end_with_parent"]
