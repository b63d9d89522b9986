"""LoRA adapters through `peft`, for SiaSamRea's own network and for video-language models."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel

from ..adapter_siasamrea import load_adapter
from ..modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, check_weights


if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(
    model: SiaSamReaForVideoQuestionAnswering, rank: int, target_modules: list[str] | None = None
) -> "PeftModel":
    r"""
    Adds LoRA layers to a model. What no pretrained encoder brings is trained whole and saved with the adapter: the
    answer heads, the grid convolution, the visual embeddings and the reasoning weights.

    Args:
        model ([`SiaSamReaForVideoQuestionAnswering`]):
            The model. Its `name_or_path` must be where its weights can be loaded from, for the adapter names it.
        rank (`int`): Rank of the added matrices; they are scaled by 2 (decision).
        target_modules (`list[str]`, *optional*, defaults to `["query", "value"]`):
            Endings of the names of the linear layers that get one.

    Returns:
        `PeftModel`: the model with only those parameters trainable.

    Raises:
        `ValueError`: If batch norms are not frozen: their statistics would move and not be saved. If a layer is a
            convolution that [`speed_up_on_cpu`] has changed.
    """
    from peft import LoraConfig, get_peft_model  # an optional dependency

    if not model.config.freeze_batch_norm:
        raise ValueError(
            "LoRA needs freeze_batch_norm=True: the statistics of the image encoder's batch norms would move in "
            "training, and an adapter does not save them."
        )
    targets = target_modules or ["query", "value"]
    whole = [f"heads.{task}" for task in model.heads] + ["grid_encoder", "visual_embeddings"]
    whole += ["siamese_reasoning"] if model.config.alpha > 0 else []
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, modules_to_save=whole)
    return get_peft_model(model, config)


def load_lora(folder: str | Path, base_model: str | None = None) -> "PeftModel":
    r"""
    Loads an adapter folder: the weights its base model was trained from, and the adapter over them.

    Args:
        folder (`str` or `Path`):
            Holds `adapter_config.json`, the adapter's weights and a `config.json`, see [`load_adapter`].
        base_model (`str`, *optional*): The model that the adapter is over, instead of the one that it names.

    Returns:
        `PeftModel`: the model, in evaluation mode, with the adapter's layers apart, to be trained on or taken off.
            `SiaSamReaForVideoQuestionAnswering.from_pretrained` gives the plain model with the adapter merged.
    """
    model = load_adapter(SiaSamReaForVideoQuestionAnswering, folder, base_model=base_model).eval()
    check_weights(model, folder)
    return model


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

    Raises:
        `ValueError`: If no layer has a name that is given.
    """
    from peft import LoraConfig, get_peft_model  # an optional dependency

    names = [f".{name}" for name, _ in model.named_modules()]
    given = [] if isinstance(target_modules, str) else target_modules or []
    unknown = [target for target in given if not any(name.endswith(f".{target}") for name in names)]
    if unknown:
        linear = sorted(
            {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        )
        raise ValueError(
            f"lora_target_modules names no layer of this model by {', '.join(unknown)}; its linear layers end with "
            f"{', '.join(linear)}."
        )
    targets = target_modules or linear_layers(model, model.get_decoder())
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    )


def linear_layers(model: PreTrainedModel, part: nn.Module) -> str:
    """The expression that finds the linear layers of a part of a model by their names."""
    prefix = next(name for name, module in model.named_modules() if module is part)
    endings = {name.rsplit(".", 1)[-1] for name, module in part.named_modules() if isinstance(module, nn.Linear)}
    return rf"{re.escape(prefix)}\..*\.({'|'.join(sorted(endings))})"


__all__ = ["add_adapter", "add_lora", "linear_layers", "load_lora"]
