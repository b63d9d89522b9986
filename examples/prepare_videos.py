"""
Makes a fast copy of a folder of videos: `siasamrea prepare` as a script.

    python examples/prepare_videos.py videos fast_videos --short_side 256
"""

import sys

from modeling_siasamrea.commands.prepare import main
from modeling_siasamrea.commands.siasamrea import run_command


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
