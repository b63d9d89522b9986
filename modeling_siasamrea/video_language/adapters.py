"""LoRA adapters over video-language models through `peft`."""

import re
from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel


if TYPE_CHECKING:
    from peft import PeftModel


def add_adapter(model: PreTrainedModel, rank: int, target_modules: list[str] | str | None = None) -> "PeftModel":
    r"""
    Adds LoRA layers to a video-language model.

    Args:
        model ([`PreTrainedModel`]):
            The model. Its `name_or_path` must be where its weights can be loaded from, for the adapter names it.
        rank (`int`): Rank of the added matrices; they are scaled by 2 (decision).
        target_modules (`list[str]` or `str`, *optional*):
            Endings of the names of the linear layers that get one, or an expression of `peft`. By default all linear
            layers of the language model (decision): those of the vision encoder would need its gradients.

    Returns:
        `PeftModel`: the model with only those layers trainable.
    """
    from peft import LoraConfig, get_peft_model  # an optional dependency

    targets = target_modules or linear_layers(model, model.get_decoder())
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    )


def linear_layers(model: PreTrainedModel, part: nn.Module) -> str:
    """The expression that finds the linear layers of a part of a model by their names."""
    prefix = next(name for name, module in model.named_modules() if module is part)
    endings = {name.rsplit(".", 1)[-1] for name, module in part.named_modules() if isinstance(module, nn.Linear)}
    return rf"{re.escape(prefix)}\..*\.({'|'.join(sorted(endings))})"


__all__ = ["add_adapter", "linear_layers"]
