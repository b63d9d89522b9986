"""
Times the package against itself and against plain Transformers on this machine; prints Markdown tables.

    python examples/benchmark.py                         # everything
    python examples/benchmark.py inference training      # chosen parts
    python examples/benchmark.py --repeats 9 --threads 4

Works are run in turn; each row has the medians, their ranges, and the ratio within the turns. A part during which
others use the machine is not reported, and the script ends there with status 1. With a GPU the model runs on it in
bf16. There is no comparison with ClipBERT's code, which is not here: no stand-in is shown to be as fast as that is.
"""

import argparse
import sys
import time
from collections.abc import Callable


import modeling_siasamrea  # noqa: F401  # isort: skip  (before torch, whose threads it tells how to wait)
import torch
from benchmark_parts.data import prepared, reading, start, together, transfer, uint8_frames
from benchmark_parts.measuring import Row, describe_machine, quiet_machine, table
from benchmark_parts.model import (
    compiled,
    fast_paths,
    growth,
    inference,
    memory_reuse,
    packed_weights,
    peak,
    peaks,
    siamese,
    training,
)


PARTS: dict[str, Callable[[int], list[Row]]] = {
    "inference": inference,
    "fast_paths": fast_paths,
    "packed_weights": packed_weights,
    "growth": growth,
    "peak": peak,
    "compiled": compiled,
    "training": training,
    "siamese": siamese,
    "memory_reuse": memory_reuse,
    "peaks": peaks,
    "reading": reading,
    "prepared": prepared,
    "transfer": transfer,
    "uint8_frames": uint8_frames,
    "together": together,
    "start": start,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the parts asked for and prints the rows of each, if the machine was quiet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each work")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of one operation")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    if given.repeats < 1:
        parser.error(f"--repeats must be 1 or more; got {given.repeats}")
    torch.set_num_threads(given.threads)

    with quiet_machine("before the measurement"):
        time.sleep(5)
    print(describe_machine(given.repeats), flush=True)
    for part in given.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        with quiet_machine(f"during the part {part}"):
            rows = PARTS[part](given.repeats)
        if rows:
            print(f"\n**{part}**: {PARTS[part].__doc__}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
