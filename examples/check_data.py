"""
Checks the videos of a benchmark, or of your own rows, before a run needs them at night: `siasamrea check` as a script.

    python examples/check_data.py msvd_qa --annotations annotations/msvd_qa --videos videos/msvd
    python examples/check_data.py train.jsonl --videos videos --output report
"""

import sys

from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.preparation.check_videos import main


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
