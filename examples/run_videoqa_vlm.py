"""
Fine-tunes and evaluates a video-language model with siamese reasoning: `siasamrea train-vlm` as a script.

    python examples/run_videoqa_vlm.py examples/configs/qwen3_vl_2b.json --train_file train.jsonl --videos videos
    torchrun --nproc_per_node 8 examples/run_videoqa_vlm.py config.json --method '{"alpha": 0}'
"""

import sys

from siasamrea_command import main


if __name__ == "__main__":
    sys.exit(main(["train-vlm", *sys.argv[1:]]))
