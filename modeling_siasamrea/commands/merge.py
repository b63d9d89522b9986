"""`siasamrea merge`: a LoRA adapter and its base model as one checkpoint, which plain Transformers serves."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..adapter_siasamrea import adapter_source
from ..training.start import explained
from .checkpoint import add_model_options, load_model
from .parser import parser_for


SERVE = """{output} is one checkpoint, with its processor and settings. To serve it:
  transformers serve {output}
  vllm serve {output}
  siasamrea ask VIDEO QUESTION --model {output}"""


def merge_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Merges a LoRA adapter into its base model. The folder that it writes loads without peft; a video-language model's
    also without this package.

        siasamrea merge my-adapter merged
    """
    parser = parser_for(merge_arguments)
    parser.add_argument("adapter", help="folder or hub name of the adapter")
    parser.add_argument("output", type=Path, help="folder to write")
    add_model_options(parser)
    given = parser.parse_args(argv)
    if given.output.exists() and (not given.output.is_dir() or any(given.output.iterdir())):
        parser.error(f"The output {given.output} must be a new or empty folder.")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    """
    Writes the merged checkpoint.

    Raises:
        `ValueError`: If the adapter cannot be loaded, or is none.
    """
    arguments = merge_arguments(argv)
    with explained(f"{arguments.adapter} cannot be merged", arguments.adapter):
        if adapter_source(arguments.adapter) is None:
            raise ValueError("it is no adapter.")
    model, processor = load_model(arguments.adapter, arguments.base_model, arguments.settings)
    if hasattr(model, "merge_and_unload"):  # SiaSamRea's own network is merged when it is loaded
        model = model.merge_and_unload()
    model.save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)
    print(SERVE.format(output=arguments.output))
