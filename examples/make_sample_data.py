"""
Writes a small video question answering data set from nothing but installed packages.

`modeling_siasamrea/sample_data.py` tells what it shows and asks.

    python examples/make_sample_data.py --output sample_data
"""

import sys

from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.preparation.sample_data import *  # noqa: F403 (for scripts that import this one)
from modeling_siasamrea.preparation.sample_data import main


if __name__ == "__main__":
    sys.exit(run_command(main))
