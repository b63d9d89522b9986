"""Prompts that begin alike: a model reads the common beginning once, and its cache serves all that follows."""

import copy
import inspect
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import BatchFeature, PreTrainedModel
from transformers.utils import logging


logger = logging.get_logger(__name__)

# By model: whether its cache can be continued without gradients, and with them.
_CONTINUES: WeakKeyDictionary[nn.Module, dict[bool, bool]] = WeakKeyDictionary()


def plain_model(model: nn.Module) -> PreTrainedModel:
    """Returns the model of Transformers itself, without DDP around it; LoRA layers stay inside it."""
    model = extract_model_from_parallel(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def run_model(
    model: nn.Module, inputs: BatchFeature | dict[str, Any], kept: int, cache: Any = None, use_cache: bool = False
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    r"""
    Runs a model, whatever its family calls its arguments.

    Args:
        model (`nn.Module`): The model, wrapped by LoRA, DDP or FSDP, or not.
        inputs ([`BatchFeature`]): Its inputs; pixels are cast to its precision.
        kept (`int`): Number of last positions whose logits are returned.
        cache (*optional*): The cache of an earlier run, which the inputs follow. It is written to.
        use_cache (`bool`, *optional*, defaults to `False`): Whether to return a cache.

    Returns:
        `tuple`: logits `(rows, kept, vocabulary)` as the model returns them, the hidden states that its output layer
        gets, `(rows, kept, hidden_size)`, and the cache.
    """
    plain = plain_model(model)
    known = inspect.signature(type(plain).forward).parameters
    cache_name = "cache" if "cache" in known else "past_key_values"
    # Processors are asked for the types of tokens, which not every family takes.
    given = {name: value for name, value in inputs.items() if name != "mm_token_type_ids" or name in known}
    given |= {name: value.to(plain.dtype) for name, value in given.items() if name.startswith("pixel_values")}
    given |= {"use_cache": use_cache} | ({"logits_to_keep": kept} if "logits_to_keep" in known else {})
    if cache is not None:
        given[cache_name] = cache
    states = []
    output_layer = plain.get_output_embeddings()
    handle = output_layer.register_forward_pre_hook(lambda layer, state: states.append(state[0]))
    try:
        output = model(**given)
    finally:
        handle.remove()
    return output.logits[:, -kept:], states[-1][:, -kept:], getattr(output, cache_name, None) if use_cache else None


def longer(inputs: BatchFeature, ids: torch.Tensor) -> BatchFeature:
    """Returns the inputs of one row with `(length,)` more tokens of text."""
    length = inputs["input_ids"].shape[1]
    longer = BatchFeature(dict(inputs))
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.shape == (1, length):
            # Types of tokens are 0 for text.
            more = ids if name == "input_ids" else torch.full_like(ids, int(name == "attention_mask"))
            longer[name] = torch.cat([value, more[None].to(value.dtype)], dim=1)
    return longer


def next_position(model: nn.Module, inputs: BatchFeature, example: torch.Tensor) -> torch.Tensor | None:
    """
    Returns the position of the text that follows one row, `(3, 1, 1)`, for a family that counts positions in time,
    height and width, and `None` for others. (The family's own count for cached prompts is wrong for long videos.)
    """
    count = getattr(plain_model(model).base_model, "get_rope_index", None)
    if count is None:
        return None
    known = inspect.signature(count).parameters
    with_text = longer(inputs, example[:1])
    return count(**{name: value for name, value in with_text.items() if name in known})[0][..., -1:]


def continues(model: nn.Module, inputs: BatchFeature, ids: torch.Tensor) -> bool:
    r"""
    Finds out, once per model, whether a repeated cache gives the logits of whole prompts; where gradients are enabled,
    also whether a backward pass through it works.

    Args:
        model (`nn.Module`): The model.
        inputs ([`BatchFeature`]): The inputs of one row.
        ids (`torch.LongTensor` of shape `(length,)`): Tokens of text that follow.
    """
    model, gradients = plain_model(model), torch.is_grad_enabled()
    verdicts = _CONTINUES.setdefault(model, {})
    if gradients not in verdicts:
        training = model.training
        exact = model.dtype == torch.float32 and not torch.is_autocast_enabled(ids.device.type)
        model.eval()
        try:
            with torch.no_grad():
                whole, *_ = run_model(model, longer(inputs, ids), len(ids))  # (1, length, vocabulary)
            parts, _ = Prompt(model, inputs, ids, cached=True).repeat(2).read(ids.expand(2, -1), len(ids))
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            if gradients and trained:
                torch.autograd.grad(parts.float().mean(), trained, allow_unused=True)
            # As a share of the logits' spread; rounding explains less than these bounds.
            difference = ((parts[1].detach() - whole[0]).norm() / (whole[0] - whole[0].mean()).norm()).item()
            verdicts[gradients] = difference < (1e-4 if exact else 0.05)
        except Exception as error:  # whatever a family raises for its cache, whole prompts work
            verdicts[gradients], difference = False, error
        finally:
            model.train(training)
        if not verdicts[gradients]:
            logger.warning(
                f"Questions cannot share the cache of {type(model).__name__} ({difference}), so each is answered from "
                "its whole prompt."
            )
    return verdicts[gradients]


class Prompt:
    r"""
    The beginning of one or more rows, which a model has read into its cache. Without a cache each run reads it again.

    Args:
        model (`nn.Module`): The model, wrapped or not.
        inputs ([`BatchFeature`]): The inputs of the beginning, one row without padding.
        example (`torch.LongTensor` of shape `(length,)`): Tokens of text that may follow it.
        cached (`bool`, *optional*): Whether to use a cache; by default if [`continues`] finds that it works.
    """

    def __init__(self, model: nn.Module, inputs: BatchFeature, example: torch.Tensor, cached: bool | None = None):
        self.model, self.rows, self.cache = model, [inputs], None
        if continues(model, inputs, example) if cached is None else cached:
            self.position = next_position(model, inputs, example)
            *_, self.cache = run_model(model, inputs, 1, use_cache=True)

    def copy(self) -> "Prompt":
        """Returns a copy that can be continued in another way; what has gradients cannot be copied."""
        prompt = copy.copy(self)
        prompt.cache = copy.deepcopy(self.cache)
        return prompt

    def repeat(self, number: int) -> "Prompt":
        """Makes several rows of the only one."""
        self.rows = self.rows * number
        if self.cache is not None and number > 1:
            self.cache.reorder_cache(torch.zeros(number, dtype=torch.long))
        return self

    def read(self, tails: torch.Tensor, kept: int) -> tuple[torch.Tensor, torch.Tensor]:
        r"""
        Reads tokens of text behind the rows, which then belong to them.

        Args:
            tails (`torch.LongTensor` of shape `(rows, length)`): The tokens; those behind the last that counts pad.
            kept (`int`): Number of last positions whose logits are returned.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: logits `(rows, kept, vocabulary)` and hidden states of [`run_model`].
        """
        if self.cache is None:
            self.rows = [longer(row, tail) for row, tail in zip(self.rows, tails)]
            logits, states = zip(*(run_model(self.model, row, kept)[:2] for row in self.rows))
            return torch.cat(logits), torch.cat(states)
        # No mask: the beginning is not padded, and padding is behind all that counts.
        types = [name for name in self.rows[0] if name.endswith("token_type_ids")]
        inputs = {"input_ids": tails} | {name: torch.zeros_like(tails) for name in types}
        if self.position is not None:
            steps = torch.arange(tails.shape[1], device=tails.device)
            inputs["position_ids"] = (self.position + steps).expand(-1, *tails.shape)
            self.position = self.position + tails.shape[1]
        logits, states, self.cache = run_model(self.model, inputs, kept, self.cache, use_cache=True)
        return logits, states
