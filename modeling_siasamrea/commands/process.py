"""The process of a command: its exit code, memory and warnings."""

import ctypes
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

from transformers.utils import logging

from .printing import one_line


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, from malloc.h
KEPT = 2**30  # bytes that are kept free at the end of the heap
SET_BY_USERS = {"GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
# Packages that only some runs need, and how each is installed where its own name does not do.
EXTRAS = dict.fromkeys(("wandb", "deepspeed", "num2words", "torchcodec", "decord", "bitsandbytes", "tensorboard"))
EXTRAS |= {"peft": "siasamrea[peft]", "gradio": "siasamrea[demo]", "ray": "siasamrea[ray]"}


def keep_freed_memory() -> None:
    """
    Makes the C library keep large blocks that are freed. Otherwise the system clears every page of the next block,
    which takes a tenth to a fifth of the time of a model's answer on a CPU.

    Does nothing on other systems than Linux, or where the environment sets the same.

    Origin: decision, measured by `examples/benchmark.py memory_reuse` of version 0.2.0.
    """
    if sys.platform != "linux" or SET_BY_USERS & os.environ.keys():
        return
    with suppress(AttributeError):  # other C libraries of Linux have no such function
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def explanation(error: Exception, script: str) -> str | None:
    """
    Explains an error that comes from input, disk or installation in one sentence; returns `None` for a bug.

    Args:
        error (`Exception`): The error.
        script (`str`): Module of the command, whose own `ValueError`s are sentences, as the package's are.
    """
    raised_in = list(traceback.walk_tb(error.__traceback__))[-1][0].f_globals.get("__name__", "")
    if isinstance(error, ValueError) and raised_in.startswith(("modeling_siasamrea", script)):
        return str(error)
    from ..training.checkpoints import is_not_written  # here, because it is slow to import

    if is_not_written(error) or isinstance(error, FileNotFoundError):
        name = getattr(error, "filename2", None) or getattr(error, "filename", None)
        what = "A file" if name is None else f"The file {name}"
        if isinstance(error, FileNotFoundError):
            return f"{what} cannot be opened: {error.strerror or error}."
        return f"{what} cannot be written: {getattr(error, 'strerror', None) or 'the disk is full'}."
    words = {getattr(error, "name", None), *str(error).lower().replace("`", " ").split()}
    missing = [name for name in EXTRAS if name in words]
    if missing and isinstance(error, ImportError | RuntimeError):
        return f'This needs {missing[0]}: pip install "{EXTRAS[missing[0]] or missing[0]}".'
    return None


def run_command(main: Callable[[Sequence[str] | None], object], argv: Sequence[str] | None = None) -> int:
    r"""
    Runs a command as a shell expects it.

    Args:
        main (`Callable`): The command; it gets the command line.
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.

    Returns:
        `int`: The exit code. 0; 1 if a video cannot be read; 2 if other input makes no sense, a file cannot be
        written, or a package is missing. Both come with one sentence on standard error; any other error is a bug and
        keeps its traceback.
    """
    keep_freed_memory()
    logging.disable_progress_bar()  # of weights that are loaded
    # Names that Transformers and peft use themselves and will drop; their users can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    try:
        main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; nothing is left to flush
        return 0
    except Exception as error:
        sentence = explanation(error, main.__module__)
        if sentence is None:
            raise
        print(one_line(sentence), file=sys.stderr)
        return 1 if type(error).__name__ in ("VideoDecodingError", "UnreadableVideoError") else 2
    return 0
