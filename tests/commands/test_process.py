"""What a command does to its process: memory, exit codes, and sentences instead of traces."""

import errno
import json
import os
import platform
import subprocess
import sys

import pytest

from modeling_siasamrea.commands.process import SET_BY_USERS, keep_freed_memory, run_command


BLOCK_MB = 128  # more than glibc's own limit for keeping a block, 32 MB
TWO_BLOCKS = f"""
import mmap, resource
import numpy as np
from modeling_siasamrea.commands.process import keep_freed_memory
keep_freed_memory()
def cleared_mb():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones({BLOCK_MB} * 2**20, dtype=np.uint8).sum()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * mmap.PAGESIZE / 2**20
print(cleared_mb(), cleared_mb())
"""


@pytest.mark.end_to_end
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
def test_a_large_block_is_cleared_once():
    # NumPy asks for huge pages by itself, of which one fault brings many.
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_USERS}
    environment["NUMPY_MADVISE_HUGEPAGE"] = "0"
    printed = subprocess.check_output([sys.executable, "-c", TWO_BLOCKS], env=environment, text=True)
    first, second = map(float, printed.split())
    assert first == pytest.approx(BLOCK_MB, rel=0.1) and second < 0.1 * BLOCK_MB


def test_a_user_s_own_setting_of_memory_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("the C library is set"))
    keep_freed_memory()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "A file cannot be written: No space left on device."),
        (PermissionError(errno.EACCES, "Permission denied", "/no"), "The file /no cannot be written"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "no/x"), "The file no/x cannot be opened"),
        (FileNotFoundError("There are no files at x."), "A file cannot be opened: There are no files at x."),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "the disk is full"),
        (ModuleNotFoundError("No module named 'peft'", name="peft"), 'pip install "siasamrea[peft]"'),
        (ImportError("Package `num2words` is required to run SmolVLM processor."), 'pip install "num2words"'),
        (RuntimeError("WandbCallback requires wandb to be installed."), 'pip install "wandb"'),
        (ValueError("Q\x1b[31m\n\ud800 is wrong"), "Q\\x1b[31m \\ud800 is wrong"),
    ],
)
def test_disks_packages_and_input_are_one_sentence_without_control_characters(error, said, capsys):
    def command(argv):
        raise error

    assert run_command(command, []) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_bugs_keep_their_traceback():
    def bug(argv):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_command(bug, [])
    with pytest.raises(ValueError):
        run_command(lambda argv: json.loads("{"), [])  # raised elsewhere


def test_ctrl_c_has_its_exit_code():
    def stopped(argv):
        raise KeyboardInterrupt

    assert run_command(stopped, []) == 130
