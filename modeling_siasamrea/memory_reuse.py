"""Memory that was freed stays with the process, for the next frames and activations (Linux with glibc)."""

import ctypes
import os
import sys


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
