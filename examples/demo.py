"""
A page in the browser that shows what a checkpoint answers about a video, and why.

    python examples/demo.py outputs/quickstart
    python examples/demo.py my-model --examples videos        # a folder of videos, or a JSONL file of questions
"""

from modeling_siasamrea.commands.demo import main


if __name__ == "__main__":
    main()
