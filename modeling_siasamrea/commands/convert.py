"""`siasamrea convert`: turns ClipBERT's weights into a checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from ..conversion.from_clipbert import clipbert_video_processor, convert_clipbert_state, read_checkpoint
from ..data.tables import read_json
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..training.start import explained
from .parser import parser_for


def convert_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Converts ClipBERT's weights: a checkpoint under its official names becomes a folder that `from_pretrained` loads.

        siasamrea convert clipbert_image_text_pretrained.pt clipbert --tokenizer google-bert/bert-base-uncased
        siasamrea train config.json --model clipbert

    Widths, depths, vocabulary and task are read from the shapes of the weights.
    """
    parser = parser_for(convert_arguments)
    parser.add_argument("checkpoint", type=Path, help="a .pt or .safetensors file under ClipBERT's names")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument(
        "--config", type=Path, help="ClipBERT's BERT configuration; the weights' shapes do not say all of it"
    )
    parser.add_argument("--num_attention_heads", type=int, help="default: of --config, or one for 64 features")
    parser.add_argument("--tokenizer", help="hub name or folder; saved with the model, which the pipeline needs")
    parser.add_argument("--answers", type=Path, help="JSON object from answer to label, ClipBERT's ans2label")
    parser.add_argument("--longest_edge", type=int, default=448, help="of the frames; ClipBERT: 448, TGIF-QA 768")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    given = convert_arguments(argv)
    with explained(f"{given.checkpoint} cannot be converted"):
        config, answers = (read_json(path, dict) if path else {} for path in (given.config, given.answers))
        model, names = convert_clipbert_state(read_checkpoint(given.checkpoint), config, given.num_attention_heads)
        labels = list(map(str, range(model.config.num_labels)))
        if given.answers is not None:
            if sorted(map(str, answers.values())) != sorted(labels):
                raise ValueError(f"{given.answers} must number the {len(labels)} answers of the head from 0.")
            model.config.id2label = {label: answer for answer, label in answers.items()}
            model.config.label2id = answers
        processor = clipbert_video_processor(given.longest_edge)
        if given.tokenizer is not None:
            processor = SiaSamReaProcessor(processor, AutoTokenizer.from_pretrained(given.tokenizer))
    model.save_pretrained(given.output)
    processor.save_pretrained(given.output)
    print(f"{given.output}: {', '.join(model.config.tasks) or 'pretraining heads'}")
    print(f"Weights used ({len(names['used'])}): {', '.join(names['used'])}")
    print(f"Weights left out on purpose ({len(names['left_out'])}): {', '.join(names['left_out'])}")
