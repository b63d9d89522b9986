"""`siasamrea export`: writes a checkpoint as a program that runs without this package."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..conversion.to_torch_export import save_exported_model
from .checkpoint import load_model
from .parser import add_model, parser_for


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the program and prints its path."""
    arguments = export_arguments(argv)
    model, processor = load_model(arguments.model)
    if model.config.model_type != "siasamrea":
        raise ValueError(f"{arguments.model} is not a SiaSamRea checkpoint; only these can be exported.")
    print(save_exported_model(arguments.output, model, processor, arguments.task))


def export_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Exports a checkpoint as a program of `torch.export`, for machines that do not have this package.

        siasamrea export my-model exported
        siasamrea export my-model exported --task multiple_choice

    The folder gets `model.pt2`, the processor that makes its inputs, and the configuration that names the answers. The
    program gives the scores of one task.
    """
    parser = parser_for(export_arguments)
    add_model(parser)
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--task", help="the head that answers; needed where the model has several")
    given = parser.parse_intermixed_args(argv)
    if given.model is None:
        parser.error("Which model? siasamrea export MODEL OUTPUT.")
    if given.output.resolve() == Path(given.model).resolve():
        parser.error("The program needs a folder of its own, not the model's.")
    return given
