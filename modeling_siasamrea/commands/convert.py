"""`siasamrea convert`: turns ClipBERT's weights into a checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ..conversion.from_clipbert import clipbert_video_processor, convert_clipbert_state, read_checkpoint
from ..data.tables import read_json
from ..modeling_siasamrea import SiaSamReaPreTrainedModel
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..training.start import explained
from .parser import parser_for


def convert_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Converts ClipBERT's weights: a checkpoint under its official names becomes a folder that `from_pretrained` loads.

        siasamrea convert clipbert_image_text_pretrained.pt --output clipbert --tokenizer google-bert/bert-base-uncased
        siasamrea train config.json --model_name_or_path clipbert

    Widths, depths, vocabulary and task are read from the shapes of the weights.
    """
    parser = parser_for(convert_arguments)
    parser.add_argument("checkpoint", type=Path, help="a .pt or .safetensors file under ClipBERT's names")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--config", type=Path, help="ClipBERT's BERT configuration; the weights' shapes do not say all of it"
    )
    parser.add_argument("--num_attention_heads", type=int, help="default: of --config, or one for 64 features")
    parser.add_argument("--tokenizer", help="hub name or folder; saved with the model, which the pipeline needs")
    parser.add_argument("--answers", type=Path, help="JSON object from answer to label, ClipBERT's ans2label")
    parser.add_argument("--longest_edge", type=int, default=448, help="of the frames; ClipBERT: 448, TGIF-QA 768")
    return parser.parse_args(argv)


def _convert(arguments: argparse.Namespace) -> tuple[SiaSamReaPreTrainedModel, dict[str, list[str]], Any]:
    """Converts the model; returns it with the names of used and unused weights, and the tokenizer if there is one."""
    bert = read_json(arguments.config, dict) if arguments.config else {}
    answers = read_json(arguments.answers, dict) if arguments.answers else None
    model, names = convert_clipbert_state(read_checkpoint(arguments.checkpoint), bert, arguments.num_attention_heads)
    if answers is not None:
        if sorted(map(str, answers.values())) != sorted(map(str, range(model.config.num_labels))):
            raise ValueError(
                f"{arguments.answers} must number the {model.config.num_labels} answers of the head from 0."
            )
        model.config.id2label = {label: answer for answer, label in answers.items()}
        model.config.label2id = answers
    return model, names, AutoTokenizer.from_pretrained(arguments.tokenizer) if arguments.tokenizer else None


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    arguments = convert_arguments(argv)
    with explained(f"{arguments.checkpoint} cannot be converted"):
        model, names, tokenizer = _convert(arguments)
    model.save_pretrained(arguments.output)
    video_processor = clipbert_video_processor(arguments.longest_edge)
    if tokenizer is None:
        video_processor.save_pretrained(arguments.output)
    else:
        SiaSamReaProcessor(video_processor, tokenizer).save_pretrained(arguments.output)
    print(f"{arguments.output}: {', '.join(model.config.tasks) or 'pretraining heads'}")
    print(f"Used {len(names['used'])} weights: {', '.join(names['used'])}")
    print(f"Left out {len(names['left_out'])} weights on purpose: {', '.join(names['left_out'])}")
