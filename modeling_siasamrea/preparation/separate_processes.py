"""Runs a function on many inputs, each in a process that may die of it."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any

from ..data.workers import end_with_parent


def in_separate_processes(
    work: Callable, inputs: Iterable[tuple], processes: int, timeout: float
) -> Iterator[tuple[tuple, Any]]:
    r"""
    Runs a function on each input in one of several processes, and replaces a process that dies or takes too long.

    Args:
        work (`Callable`): The function.
        inputs (`Iterable[tuple]`): The arguments of each call.
        processes (`int`): Number of processes.
        timeout (`float`): Seconds that one input may take, at most a week.

    Yields:
        `tuple`: An input and its result, in the order in which they are finished. If the process died, the result is
        a `ChildProcessError`; if it took too long, a `TimeoutError`.
    """
    waiting, idle, busy = iter(inputs), [], []
    try:
        while True:
            for each in islice(waiting, processes - len(busy)):
                worker = idle.pop() if idle else _Worker(work)
                worker.begin(each, timeout)
                busy.append(worker)
            if not busy:
                return
            next_deadline = min(worker.deadline for worker in busy)
            wait([worker.connection for worker in busy], max(0.0, next_deadline - time.monotonic()))
            for worker in list(busy):
                if worker.connection.poll() or time.monotonic() >= worker.deadline:
                    result = worker.result()
                    busy.remove(worker)
                    idle += [] if isinstance(result, OSError) else [worker]
                    yield worker.input, result
    finally:
        for worker in idle + busy:
            worker.end()


class _Worker:
    """A process that works on one input at a time, so that it is known which one it died of."""

    def __init__(self, work: Callable):
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_serve, args=(other, work), daemon=True)
        self.process.start()
        other.close()  # only the worker holds it, so that its death shows

    def begin(self, each: Any, timeout: float) -> None:
        """Sends the next input."""
        self.input, self.timeout, self.deadline = each, timeout, time.monotonic() + timeout
        self.connection.send(each)

    def result(self) -> Any:
        """Returns the result, or an error if the process died or took too long, which ends it."""
        if not self.connection.poll():
            self.end()
            return TimeoutError(f"it was not read within {self.timeout:g} s")
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.end()
            code = self.process.exitcode
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            return ChildProcessError(f"the process that read it ended {how}")

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, work: Callable) -> None:
    """Works on the inputs that a worker is sent, until the process that sends them is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process ends the others
    end_with_parent()
    while True:
        connection.send(work(*connection.recv()))
