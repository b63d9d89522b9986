"""What a command does to its own process: exit codes, imports and memory."""

import ctypes
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, from malloc.h
SET_BY_USERS = {"GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}


def keep_freed_memory(at_most: int = 2**30) -> None:
    r"""
    Has the C library keep large blocks that are freed instead of giving each back to the system, which clears every
    page of it again for the next one: in a model's answer on a CPU a tenth to a fifth of the time.

    Nothing is done on other systems, or where the environment says it already (`GLIBC_TUNABLES`,
    `MALLOC_MMAP_MAX_`, `MALLOC_MMAP_THRESHOLD_`, `MALLOC_TRIM_THRESHOLD_`).

    Args:
        at_most (`int`, *optional*, defaults to 1 GiB): Bytes at the end of the heap that are kept free at most.

    Origin: decision, measured by `python examples/benchmark.py memory_reuse`.
    """
    if sys.platform != "linux" or SET_BY_USERS & os.environ.keys():
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # other C libraries of Linux have none
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, at_most)


def is_sentence(error: Exception, script: str) -> bool:
    """Whether this package or the script raised an error, which then is a sentence about the input, and no bug."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").startswith(("modeling_siasamrea", script))


def run_command(main: Callable[[Sequence[str] | None], object], argv: Sequence[str] | None = None) -> int:
    r"""
    Runs a command as a shell expects it.

    Args:
        main (`Callable`): The command; it gets the command line.
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.

    Returns:
        `int`: the exit code. 0; 1 if a video cannot be read; 2 if other input makes no sense. Both come with one
        sentence on standard error; any other error is a bug and keeps its traceback.
    """
    try:
        main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; nothing is left to flush
        return 0
    except ValueError as error:
        if not is_sentence(error, main.__module__):
            raise
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1 if type(error).__name__ in ("VideoDecodingError", "UnreadableVideoError") else 2
    return 0


def import_command(module: str) -> ModuleType:
    """Imports a command. What torch and Transformers make is there to stay: to look for garbage in it takes long."""
    gc.disable()
    command = importlib.import_module(module)
    gc.freeze()
    gc.enable()
    return command
