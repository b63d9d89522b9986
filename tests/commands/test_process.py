"""What the process keeps of memory that was freed, counted in the pages that the system clears for it."""

import os
import platform
import subprocess
import sys

import pytest


BLOCK_MB = 128  # more than glibc's own limit for keeping a block, 32 MB
TWO_BLOCKS = f"""
import mmap, resource, sys
import numpy as np
exec(sys.argv[1])
def cleared_mb():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones({BLOCK_MB} * 2**20, dtype=np.uint8).sum()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * mmap.PAGESIZE / 2**20
print(cleared_mb(), cleared_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
@pytest.mark.parametrize(
    ("statement", "environment", "again"),
    [
        ("import modeling_siasamrea", {}, 0),
        ("import modeling_siasamrea", {"MALLOC_MMAP_THRESHOLD_": "1000000"}, BLOCK_MB),
        ("from modeling_siasamrea.commands.process import keep_freed_memory as f; f(2**20)", {}, BLOCK_MB),
        ("", {}, BLOCK_MB),
    ],
    ids=["kept", "the user's own setting", "no more than told", "without the package"],
)
def test_a_large_block_is_cleared_once(statement, environment, again):
    # NumPy asks for huge pages by itself, of which one fault brings many.
    environment = os.environ | environment | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", TWO_BLOCKS, statement], env=environment, capture_output=True, text=True, check=True
    )
    first, second = map(float, ran.stdout.split())
    assert first == pytest.approx(BLOCK_MB, rel=0.1) and second == pytest.approx(again, abs=0.1 * BLOCK_MB)
