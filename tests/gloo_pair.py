"""Processes that have the package imported, and a pair of them joined by gloo for tests that need two processes."""

import os
import socket
import sys
import traceback
from importlib import import_module
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any


SECONDS = 240  # that a job may take


def preloaded_processes() -> ForkServerContext:
    """Returns what starts processes that are forked after the package's imports and before anything has run."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["modeling_siasamrea", "modeling_siasamrea.training.trainer"])
    return context


class GlooPair:
    """
    Starts two processes with the first job, and again after a job that hung or died.

    Example:

    ```python
    >>> gloo_pair.run("train_small_data", "train", settings)  # [result of rank 0, result of rank 1]
    ```"""

    def __init__(self):
        self._processes: list[tuple[Any, Connection]] = []

    def run(self, module: str, function: str, *arguments: Any) -> list[Any]:
        r"""
        Calls `function(*arguments)` of a module in `tests/` in both processes.

        Args:
            module (`str`): Name of the module.
            function (`str`): Name of the function.

        Returns:
            `list`: what each process returned.

        Raises:
            `RuntimeError`: If a process raises, dies or takes too long; has the tracebacks of both.
        """
        if not self._processes:
            self._start()
        for _, pipe in self._processes:
            pipe.send((module, function, arguments))
        answers = [_answer(pipe) for _, pipe in self._processes]
        if None in answers:
            self.stop()
        errors = [answer[1] if answer else "it died, or ran too long" for answer in answers if not answer or answer[1]]
        if errors:
            raise RuntimeError("\n".join(errors))
        return [value for value, _ in answers]

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(2):
            ours, theirs = Pipe()
            process = preloaded_processes().Process(target=_serve, args=(theirs, rank, port), daemon=True)
            process.start()
            theirs.close()
            self._processes.append((process, ours))

    def stop(self) -> None:
        """Kills both processes."""
        for process, _ in self._processes:
            process.kill()
            process.join()
        self._processes = []


def _answer(pipe: Connection) -> tuple[Any, str] | None:
    """Reads the value and the traceback of a job; `None` of a process that died or takes too long."""
    try:
        return pipe.recv() if pipe.poll(SECONDS) else None
    except EOFError:
        return None


def _serve(pipe: Connection, rank: int, port: int) -> None:
    """Runs jobs until the pipe is closed."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.stdout = sys.stderr
    while True:
        try:
            module, function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = getattr(import_module(module), function)(*arguments), ""
        except Exception:
            answer = None, traceback.format_exc()
        _forget_last_job()
        pipe.send(answer)


def _forget_last_job() -> None:
    """Lets the next job choose its own sharding and precision; the process group stays."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
