"""Runs a function on many inputs, each in a process that may die of it."""

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from itertools import islice
from typing import Any

from pebble import ProcessExpired, ProcessPool

from ..data.workers import end_with_parent
from ..processors.video_error import first_line


def in_separate_processes(
    work: Callable, inputs: Iterable[tuple], processes: int, timeout: float
) -> Iterator[tuple[tuple, Any]]:
    r"""
    Runs a function on each input in one of several processes, and replaces a process that dies or takes too long.

    Args:
        work (`Callable`): The function.
        inputs (`Iterable[tuple]`): The arguments of each call.
        processes (`int`): Number of processes.
        timeout (`float`): Seconds that one input may take.

    Yields:
        `tuple`: An input and its result, in the order in which they are finished. If the process died, the result is
        a `ChildProcessError`; if it took too long, a `TimeoutError`.
    """
    waiting, running = iter(inputs), {}
    pool = ProcessPool(processes, initializer=end_with_parent)
    try:
        while True:
            # No more than there are processes, because all inputs may be too many to hold.
            for each in islice(waiting, processes - len(running)):
                running[pool.schedule(work, args=each, timeout=timeout)] = each
            if not running:
                return
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                yield running.pop(future), _result(future, timeout)
    finally:
        pool.stop()
        pool.join()


def _result(future: futures.Future, timeout: float) -> Any:
    try:
        return future.result()
    except futures.TimeoutError:
        return TimeoutError(f"it was not read within {timeout:g} s")
    except ProcessExpired as error:
        code = error.exitcode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return ChildProcessError(f"the process that read it ended {how}")
    except Exception as error:  # such as a MemoryError: one input must not stop the others
        return ChildProcessError(f"the process that read it raised {type(error).__name__} ({first_line(error)})")
