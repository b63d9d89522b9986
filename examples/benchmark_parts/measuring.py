"""What `benchmark.py` measures with: works timed in turn, ratios with their ranges, and a machine left to them."""

import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MOST_BY_OTHERS = 0.05  # of the cores' time; beyond it a median of a few runs moves by more than its range says

Measure = Callable[[], float]


def synchronize() -> None:
    """Waits until the GPU, where there is one, has done what it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object]) -> Measure:
    """A work as a function that does it and returns the seconds it took."""

    def measure() -> float:
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        return time.perf_counter() - start

    return measure


def operations_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the products and convolutions of a work, as PyTorch counts them."""
    # PyTorch does not count those of oneDNN's tensors.
    with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
        work()
    return counter.get_total_flops()


def in_turn(repeats: int, *measures: Measure) -> list[list[float]]:
    """What each of `measures` returns, in turn `repeats` times after one warm-up."""
    for measure in measures:
        measure()
    rounds = [[measure() for measure in measures] for _ in range(repeats)]
    return [list(values) for values in zip(*rounds)]


def spread(values: list[float], digits: int = 3) -> str:
    """The median of values, and their range."""
    numbers = [f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))]
    return "{} ({}–{})".format(*numbers)


@dataclass
class Row:
    """
    A line of the table.

    Args:
        what (`str`): The work.
        beside (`str`): What it is compared with.
        ours (`list[float]`): Seconds, or gigabytes, of the work in each turn.
        theirs (`list[float]`): Those of what it is compared with, in the same turns.
        note (`str`, *optional*): Anything else.
        unit (`str`, *optional*, defaults to `"s"`): `"s"` or `"GB"`.
    """

    what: str
    beside: str
    ours: list[float]
    theirs: list[float]
    note: str = ""
    unit: str = "s"

    @property
    def ratios(self) -> list[float]:
        """Of each turn, how many times as much the other takes: above 1 the work is faster, or smaller."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs)]

    @property
    def times(self) -> float:
        """How many times as much as the other the work takes: the median of the turns."""
        return statistics.median(1 / ratio for ratio in self.ratios)


def compare(repeats: int, what: str, ours: Measure, others: dict[str, Measure], note: str = "") -> list[Row]:
    """Measures a work and those beside it in turn; a row for each of these."""
    seconds, *of_others = in_turn(repeats, ours, *others.values())
    return [Row(what, beside, seconds, theirs, note) for beside, theirs in zip(others, of_others)]


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | median (range) | beside | median (range) | ratio | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ours, theirs = (f"{spread(values)} {row.unit}" for values in (row.ours, row.theirs))
        lines.append(f"| {row.what} | {ours} | {row.beside} | {theirs} | {spread(row.ratios, 2)} | {row.note} |")
    return "\n".join(lines)


def in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function returns in a process whose memory nothing else has touched."""
    with ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(torch.get_num_threads(),),
    ) as pool:
        return pool.submit(function, *arguments).result()


def memory(field: str) -> float:
    """A size of this process in GB (Linux): `VmHWM`, its peak, or `VmRSS`, its present size."""
    # Not getrusage, whose peak a process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 2**20


def peak_memory() -> float:
    """The most memory that this process had, in GB: the GPU's where there is one."""
    return torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else memory("VmHWM")


# --- the machine -----------------------------------------------------------------------------------------------------


def processor_name() -> str:
    """The processor's name."""
    if sys.platform == "linux":
        names = [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the clone that this file is in; empty outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return f", commit {git('rev-parse', '--short', 'HEAD')}{changed}"
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe_machine(repeats: int) -> str:
    """What was measured, where and how, as Markdown."""
    gpu = f"{torch.cuda.get_device_name()}, bf16 autocast" if DEVICE.type == "cuda" else "no GPU, float32"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "av"))
    return (
        f"siasamrea {version('siasamrea')}{commit()}; {packages}, Python {platform.python_version()}; "
        f"{processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; {gpu}. "
        f"Medians and ranges of {repeats} runs, in turn; above 1 this package is faster."
    )


def busy_seconds() -> float:
    """Seconds that the cores have worked since the start of the machine (Linux), for whomever."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = ticks[:8]
    # What the host gives to other virtual machines is used by others, too.
    working = user + nice + system + interrupts + soft_interrupts + stolen
    return working / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Seconds that cores have worked for this process and those of its children that have ended."""
    return sum(os.times()[:4])


@contextmanager
def quiet_machine(when: str) -> Iterator[None]:
    """
    A context at whose end the script stops with status 1 if others used the machine meanwhile: a share of
    `MOST_BY_OTHERS` of the cores' time on Linux; elsewhere the load average stands for it, less what is our own.
    """
    is_linux, cores = sys.platform == "linux", os.cpu_count()
    busy, own, start = busy_seconds() if is_linux else 0.0, own_seconds(), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    ours = (own_seconds() - own) / seconds
    by_others = ((busy_seconds() - busy) / seconds if is_linux else os.getloadavg()[0]) - ours
    if by_others > MOST_BY_OTHERS * cores:
        raise SystemExit(
            f"Other processes kept {by_others:.2f} of the {cores} cores busy {when}, and at most "
            f"{MOST_BY_OTHERS * cores:.2f} would do: their work would be in these numbers, so they are not reported. "
            "End those processes, or wait for them, and run this again."
        )
