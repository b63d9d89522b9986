"""Prompts that begin alike: a model reads the common beginning once, and its cache serves all that follows."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, PreTrainedModel
from transformers.utils import logging


logger = logging.get_logger(__name__)

# By model: whether its cache may be used so without gradients, and with them.
_GOES_ON: WeakKeyDictionary[nn.Module, dict[bool, bool]] = WeakKeyDictionary()


def plain_model(model: nn.Module) -> PreTrainedModel:
    """Returns the model of Transformers itself, without DDP around it; LoRA layers stay inside it."""
    model = extract_model_from_parallel(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def before(layer: nn.Module, do: Callable[[nn.Module, torch.Tensor], None]) -> Iterator[None]:
    """Runs `do` on the layer and its input whenever the layer runs."""
    handle = layer.register_forward_pre_hook(lambda module, inputs: do(module, inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def run_model(
    model: nn.Module, inputs: BatchFeature | dict[str, Any], kept: int, cache: Any = None, use_cache: bool = False
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    r"""
    Runs a model, whatever its family calls its arguments.

    Args:
        model (`nn.Module`): The model, wrapped by LoRA, DDP or FSDP, or not.
        inputs ([`BatchFeature`]): Its inputs.
        kept (`int`): Last positions whose logits are wanted.
        cache (*optional*): What an earlier run returned; the inputs follow it. It is written to.
        use_cache (`bool`, *optional*, defaults to `False`): Whether a cache is wanted.

    Returns:
        `tuple`: logits `(rows, kept, vocabulary)` as the model returns them, the hidden states that its output layer
        made them from, `(rows, kept, hidden_size)`, and the cache.
    """
    plain = plain_model(model)
    known = inspect.signature(type(plain).forward).parameters
    cache_name = "cache" if "cache" in known else "past_key_values"
    arguments = {"use_cache": use_cache} | ({"logits_to_keep": kept} if "logits_to_keep" in known else {})
    if cache is not None:
        arguments[cache_name] = cache
    # Processors are asked for the types of tokens, which not every family takes.
    given = {name: value for name, value in inputs.items() if name != "mm_token_type_ids" or name in known}
    states = []
    with before(plain.get_output_embeddings(), lambda layer, state: states.append(state)):
        output = model(**given, **arguments)
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


def next_position(model: nn.Module, inputs: BatchFeature, tail: torch.Tensor) -> torch.Tensor | None:
    """
    Returns the position of the token that follows one row, `(3, 1, 1)`, if the family counts positions in time, height
    and width (its own count for cached prompts is another where a video is long), and `None` otherwise.
    """
    count = getattr(plain_model(model).base_model, "get_rope_index", None)
    if count is None:
        return None
    known = inspect.signature(count).parameters
    whole = longer(inputs, tail[:1])
    return count(**{name: value for name, value in whole.items() if name in known})[0][..., -1:]


def following(inputs: BatchFeature, tails: torch.Tensor, position: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """
    Returns the inputs for `(rows, length)` tokens of text behind those of one row, at [`next_position`]. They need no
    mask: the row is not padded, and padding at the right of what follows is behind all that counts.
    """
    types = [name for name in inputs if name.endswith("token_type_ids")]
    made = {"input_ids": tails} | {name: torch.zeros_like(tails) for name in types}
    if position is not None:
        made["position_ids"] = (position + torch.arange(tails.shape[1], device=tails.device)).expand(-1, *tails.shape)
    return made


def repeated(cache: Any, rows: int) -> Any:
    """Repeats the cache of one row for several, in place."""
    if rows > 1:
        cache.reorder_cache(torch.zeros(rows, dtype=torch.long))
    return cache


def goes_on(model: nn.Module, inputs: BatchFeature, ids: torch.Tensor) -> bool:
    r"""
    Finds out, once per model, whether going on from a copied cache gives the logits of the whole prompt; where
    gradients are enabled, also whether there are any.

    Args:
        model (`nn.Module`): The model.
        inputs ([`BatchFeature`]): The inputs of one row.
        ids (`torch.LongTensor` of shape `(length,)`): Tokens of text that follow.
    """
    model, gradients = plain_model(model), torch.is_grad_enabled()
    verdicts = _GOES_ON.setdefault(model, {})
    if gradients not in verdicts:
        training = model.training
        exact = model.dtype == torch.float32 and not torch.is_autocast_enabled(ids.device.type)
        model.eval()
        try:
            with torch.no_grad():
                whole, *_ = run_model(model, longer(inputs, ids), len(ids))
            *_, cache = run_model(model, inputs, 1, use_cache=True)
            # What has gradients cannot be copied, and is used once.
            cache = repeated(cache if gradients else copy.deepcopy(cache), 2)
            twice = following(inputs, ids.expand(2, -1), next_position(model, inputs, ids))
            parts, *_ = run_model(model, twice, len(ids), cache, use_cache=True)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            if gradients and trained:
                torch.autograd.grad(parts.float().mean(), trained, allow_unused=True)
            # As a share of the logits' spread; rounding explains less than these bounds.
            difference = ((parts[1].detach() - whole[0]).norm() / (whole[0] - whole[0].mean()).norm()).item()
            verdicts[gradients] = difference < (1e-4 if exact else 0.05)
        except Exception as error:  # a family's own way with its cache: whatever it raises, the plain way works
            verdicts[gradients], difference = False, error
        finally:
            model.train(training)
        if not verdicts[gradients]:
            logger.warning(
                f"The cache of {type(model).__name__} cannot be shared by several questions ({difference}), so each "
                "is answered from its whole prompt."
            )
    return verdicts[gradients]


def run_shared(
    model: nn.Module, inputs: BatchFeature, tails: torch.Tensor, kept: int
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    Runs a model on rows that begin alike, with gradients where they are enabled.

    Args:
        model (`nn.Module`): The model, wrapped or not.
        inputs ([`BatchFeature`]): The inputs of the common beginning, one row.
        tails (`torch.LongTensor` of shape `(rows, length)`): What follows in each row, padded at the right.
        kept (`int`): Last positions of `tails` whose logits are wanted.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: logits `(rows, kept, vocabulary)` and hidden states, see [`run_model`].
    """
    if not goes_on(model, inputs, tails[0]):
        rows = [run_model(model, longer(inputs, tail), kept)[:2] for tail in tails]
        logits, states = map(torch.cat, zip(*rows))
        return logits, states
    *_, cache = run_model(model, inputs, 1, use_cache=True)
    cache = repeated(cache, len(tails))
    inputs = following(inputs, tails, next_position(model, inputs, tails[0]))
    return run_model(model, inputs, kept, cache, use_cache=True)[:2]


class Prompt:
    r"""
    A prompt that a model goes on from without reading it again, where its cache allows that, see [`goes_on`];
    otherwise each run reads the prompt as a whole.

    Args:
        model (`nn.Module`): The model; not wrapped by DDP.
        inputs ([`BatchFeature`]): The inputs of the prompt, one row without padding.
        example (`torch.LongTensor` of shape `(length,)`): An example of tokens that follow it.
    """

    def __init__(self, model: nn.Module, inputs: BatchFeature, example: torch.Tensor):
        self.model, self.rows, self.cache = model, [inputs], None
        if goes_on(model, inputs, example):
            self.position = next_position(model, inputs, example)
            # The logits are the scores of the next token, (rows, 1, vocabulary).
            self.logits, _, self.cache = run_model(model, inputs, 1, use_cache=True)

    def then(self, tails: torch.Tensor) -> "Prompt":
        """Returns the prompt, one row, with `(rows, length)` more tokens, which make as many rows of it."""
        prompt = copy.copy(self)
        prompt.rows = self.rows * len(tails)
        prompt.cache = None if self.cache is None else repeated(copy.deepcopy(self.cache), len(tails))
        prompt._read(tails)
        return prompt

    def _read(self, tails: torch.Tensor) -> None:
        if self.cache is not None:
            behind = following(self.rows[0], tails, self.position)
            self.logits, _, self.cache = run_model(self.model, behind, 1, self.cache, use_cache=True)
            self.position = None if self.position is None else self.position + tails.shape[1]
        self.rows = [longer(inputs, tail) for inputs, tail in zip(self.rows, tails)]

    def logits_of(self, tails: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """
        Returns for `(length,)` tokens behind each row, or for several behind an only row, the scores
        `(length, vocabulary)` that they are chosen by.
        """
        repeats = len(tails) // len(self.rows)
        if self.cache is None:
            return [
                run_model(self.model, longer(inputs, tail), len(tail) + 1)[0][0, :-1]
                for inputs, tail in zip(self.rows * repeats, tails)
            ]
        first = self.logits.repeat(repeats, 1, 1)  # (tails, 1, vocabulary)
        behind = pad_sequence([tail[:-1] for tail in tails], batch_first=True)  # the last predicts nothing
        if behind.shape[1] == 0:
            return list(first)
        cache = repeated(copy.deepcopy(self.cache), repeats)
        inputs = following(self.rows[0], behind, self.position)
        logits, *_ = run_model(self.model, inputs, behind.shape[1], cache, use_cache=True)
        return [torch.cat([one, of_row[: len(tail) - 1]]) for one, of_row, tail in zip(first, logits, tails)]

    def write(self, max_new_tokens: int, ends: Sequence[int]) -> list[tuple[list[int], float]]:
        """
        Writes the most likely token again and again, behind each row; returns the tokens, without the one that ends
        them, and the logarithm of their probability. What was written belongs to the prompt then.
        """
        written: list[list[int]] = [[] for _ in self.rows]
        log_p, ended = [0.0] * len(written), [False] * len(written)
        for step in range(1, max_new_tokens + 1):
            if self.cache is None:
                self.logits = torch.cat([run_model(self.model, inputs, 1)[0] for inputs in self.rows])
            best = self.logits[:, -1].float().log_softmax(dim=-1).max(dim=-1)
            for row, (token, value) in enumerate(zip(best.indices.tolist(), best.values.tolist())):
                if not ended[row]:
                    log_p[row] += value
                    ended[row] = token in ends
                    written[row] += [] if ended[row] else [token]
            if all(ended) or step == max_new_tokens:
                break
            self._read(best.indices[:, None])
        return list(zip(written, log_p))


__all__ = ["Prompt", "before", "run_model", "run_shared"]
