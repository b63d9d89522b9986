"""LoRA layers through `peft`, for SiaSamRea's own network and for video-language models."""

import re
from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel

from ..modeling_siasamrea import SiaSamReaForVideoQuestionAnswering


if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(model: PreTrainedModel, rank: int, target_modules: list[str] | str | None = None) -> "PeftModel":
    r"""
    Adds LoRA layers to a model. Of SiaSamRea's own network, what no pretrained encoder brings is trained whole and
    saved with the adapter: the answer heads, the grid convolution, the visual embeddings and the reasoning weights.

    Args:
        model ([`SiaSamReaForVideoQuestionAnswering`], or a video-language model):
            The model. Its `name_or_path` must be where its weights can be loaded from, because the adapter names it.
        rank (`int`): Rank of the added matrices; they are scaled by 2 (decision).
        target_modules (`list[str]` or `str`, *optional*):
            Endings of the names of the linear layers that get one, or an expression of `peft`. By default `query` and
            `value`, or all linear layers of a video-language model's language model (decision): those of its vision
            encoder would need the encoder's gradients.

    Returns:
        `PeftModel`: the model with only those parameters trainable.

    Raises:
        `ValueError`: If no layer has a name that is given, or if batch norms are not frozen: their statistics would
            move and not be saved.
    """
    from peft import LoraConfig, get_peft_model  # an optional dependency

    fields = {}
    if isinstance(model, SiaSamReaForVideoQuestionAnswering):
        if not model.config.freeze_batch_norm:
            raise ValueError(
                "LoRA needs freeze_batch_norm=True: the statistics of the image encoder's batch norms would move in "
                "training, and an adapter does not save them."
            )
        targets = target_modules or ["query", "value"]
        whole = [f"heads.{task}" for task in model.heads] + ["grid_encoder", "visual_embeddings"]
        fields["modules_to_save"] = whole + ["siamese_reasoning"] * (model.config.alpha > 0)
    else:
        decoder = model.get_decoder()
        prefix = next(name for name, module in model.named_modules() if module is decoder)
        targets = target_modules or rf"{re.escape(prefix)}\..*\.({'|'.join(linear_layers(decoder))})"
        fields["task_type"] = "CAUSAL_LM"
    names = [f".{name}" for name, _ in model.named_modules()]
    given = [] if isinstance(targets, str) else targets
    unknown = [target for target in given if not any(name.endswith(f".{target}") for name in names)]
    if unknown:
        raise ValueError(
            f"lora_target_modules names no layer of this model by {', '.join(unknown)}; its linear layers end with "
            f"{', '.join(linear_layers(model))}."
        )
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, **fields))


def linear_layers(part: nn.Module) -> list[str]:
    """Returns the endings of the names of a module's linear layers."""
    return sorted({name.rsplit(".", 1)[-1] for name, module in part.named_modules() if isinstance(module, nn.Linear)})
