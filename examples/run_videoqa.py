"""
Fine-tunes and evaluates SiaSamRea for video question answering: `siasamrea train` as a script.

    python examples/run_videoqa.py examples/configs/quickstart.json
    torchrun --nproc_per_node 8 examples/run_videoqa.py config.json --learning_rate 1e-4
"""

import sys

from siasamrea_command import main


if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
