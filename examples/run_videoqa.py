"""
Fine-tunes and evaluates SiaSamRea for video question answering: `siasamrea train` as a script.

    python examples/run_videoqa.py examples/configs/quickstart.json
    python examples/run_videoqa.py config.json --learning_rate 1e-4 --model_config '{"alpha": 0}'

The JSON file holds any of the arguments; what follows it on the command line takes precedence (the dictionaries
`model_config`, `video_processor` and `sample_data` are merged key by key).
"""

import sys

from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.commands.train import main, parse_arguments


__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(run_command(main))
