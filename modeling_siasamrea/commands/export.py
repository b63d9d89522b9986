"""`siasamrea export`: a checkpoint as a programme of `torch.export`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..conversion.to_torch_export import save_exported_model
from .checkpoint import load_answerer
from .parser import parser_for


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    arguments = export_arguments(argv)
    answerer = load_answerer(arguments.checkpoint)
    if answerer.model.config.model_type != "siasamrea":
        raise ValueError(f"{arguments.checkpoint} is no SiaSamRea checkpoint, and only these can be exported.")
    print(save_exported_model(arguments.output, answerer.model, answerer.processor, arguments.task))


def export_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Exports a checkpoint as a programme of `torch.export`, for machines that run no Python of this package.

        siasamrea export my-model exported
        siasamrea export my-model exported --task multiple_choice

    The folder gets `model.pt2`, which takes what the processor beside it makes and gives the scores of one task, and
    the configuration that names the answers; see [`save_exported_model`].
    """
    parser = parser_for(export_arguments)
    parser.add_argument("checkpoint", help="a SiaSamRea checkpoint or LoRA adapter: folder or hub name")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--task", help="the head that answers; may be left out where the model has one")
    given = parser.parse_args(argv)
    if given.output.exists() and not given.output.is_dir():
        parser.error(f"{given.output} is a file; the programme needs a folder.")
    if given.output.resolve() == Path(given.checkpoint).resolve():
        parser.error("The programme needs a folder of its own, beside the checkpoint's.")
    return given


__all__ = ["main"]
