"""One pair of processes joined by gloo, which runs the jobs of all tests that need two processes."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any


TESTS = Path(__file__).resolve().parent
SECONDS = 240  # that a job may take


class GlooPair:
    """
    Starts two processes with the first job, and again after a job that hung or died.

    Example:

    ```python
    >>> gloo_pair.run("train_small_data", "main", str(path))  # [result of rank 0, result of rank 1]
    ```"""

    def __init__(self):
        self._processes: list[subprocess.Popen] = []

    def run(self, module: str, function: str, *arguments: Any, seconds: float = SECONDS) -> list[Any]:
        r"""
        Calls `function(*arguments)` of a module in `tests/` in both processes.

        Args:
            module (`str`): Name of the module.
            function (`str`): Name of the function. Arguments and result are JSON values.
            seconds (`float`, *optional*): Time after which the pair is killed.

        Returns:
            `list`: what each process returned.

        Raises:
            `RuntimeError`: If a process raises; has the tracebacks of both.
        """
        if not self._processes:
            self._start()
        with tempfile.TemporaryDirectory() as folder:
            job = {"module": module, "function": function, "arguments": arguments, "folder": folder}
            for process in self._processes:
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
            # A process that dies closes its output, so reading never waits for a dead one alone.
            try:
                self._wait(seconds)
            except TimeoutError:
                self.stop()
                raise
            results = [Path(folder, str(rank)) for rank in range(2)]
            results = [json.loads(path.read_text()) if path.is_file() else {"error": "it died"} for path in results]
        errors = [result["error"] for result in results if "error" in result]
        if errors:
            if any(process.poll() is not None for process in self._processes):
                self.stop()
            raise RuntimeError("\n".join(errors))
        return [result["value"] for result in results]

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(2):
            environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            environment |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment |= {"OMP_NUM_THREADS": "1"}
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, __file__],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def _wait(self, seconds: float) -> None:
        """Reads one line of each process, which it prints when its job has ended."""
        readers = [threading.Thread(target=process.stdout.readline, daemon=True) for process in self._processes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(seconds)
            if reader.is_alive():
                raise TimeoutError(f"A job of two processes took more than {seconds} s.")

    def stop(self) -> None:
        """Kills both processes."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes = []


def forget_last_job() -> None:
    """Lets the next job choose its own sharding and precision; the process group stays."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def serve() -> None:
    """Runs jobs from standard input until it is closed."""
    sys.path.insert(0, str(TESTS))
    answers, sys.stdout = sys.stdout, sys.stderr  # what a job prints is no answer
    for line in sys.stdin:
        job = json.loads(line)
        try:
            function = getattr(import_module(job["module"]), job["function"])
            result = {"value": function(*job["arguments"])}
        except Exception:
            result = {"error": traceback.format_exc()}
        forget_last_job()
        Path(job["folder"], os.environ["RANK"]).write_text(json.dumps(result))
        answers.write("done\n")
        answers.flush()


if __name__ == "__main__":
    serve()
