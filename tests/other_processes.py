"""Processes that a test starts: whether they live, waiting for them, and a model server."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path


def lives(process: int) -> bool:
    """Whether a process lives (Linux); one that ended and is not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until a condition holds, for so many seconds at most; whether it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def transformers_server(model: str, log: Path) -> Iterator[int]:
    """Serves a model with `transformers serve` on a CPU; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model, "--port", str(port)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(log, "w") as file:
        server = subprocess.Popen([*command, "--device", "cpu"], env=environment, stdout=file, stderr=file)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1))
        return server.poll() is not None

    try:
        assert wait_for(answers, 120) and server.poll() is None, log.read_text()
        yield port
    finally:
        server.terminate()
        server.wait()
