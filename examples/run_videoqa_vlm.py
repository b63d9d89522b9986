"""
Fine-tunes and evaluates a video-language model with siamese reasoning: `siasamrea train_vlm` as a script.

    python examples/run_videoqa_vlm.py examples/configs/qwen3_vl_2b.json --train_file train.jsonl --video_folder videos
    torchrun --nproc_per_node 8 examples/run_videoqa_vlm.py config.json --method '{"alpha": 0}'
"""

import sys

from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.commands.train_vlm import main


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
