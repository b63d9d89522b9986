"""Whether processes that a test started live, and waiting for them."""

import time
from collections.abc import Callable
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
