"""`siasamrea export`: a checkpoint as a programme of `torch.export`."""

from collections.abc import Sequence

from ..answerer_loading import load_answerer
from ..export_siasamrea import save_exported_model
from .siasamrea import export_arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    arguments = export_arguments(argv)
    answerer = load_answerer(arguments.checkpoint)
    if answerer.model.config.model_type != "siasamrea":
        raise ValueError(f"{arguments.checkpoint} is no SiaSamRea checkpoint, and only these can be exported.")
    print(save_exported_model(arguments.output, answerer.model, answerer.processor, arguments.task))


__all__ = ["main"]
