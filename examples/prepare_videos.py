"""
Makes a fast copy of a folder of videos: `siasamrea prepare` as a script.

    python examples/prepare_videos.py videos fast_videos --short_side 256
"""

import sys

from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.preparation.small_copies import main


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
