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
from transformers import BatchFeature, GenerationConfig, PreTrainedModel
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
    states = []
    with before(plain.get_output_embeddings(), lambda layer, given: states.append(given)):
        output = model(**_accepted(plain, inputs), **arguments)
    return output.logits[:, -kept:], states[-1][:, -kept:], getattr(output, cache_name, None) if use_cache else None


def _accepted(plain: PreTrainedModel, inputs: BatchFeature | dict[str, Any]) -> dict[str, Any]:
    """Leaves out the types of tokens, which processors are asked for, where the model does not take them."""
    takes_types = "mm_token_type_ids" in inspect.signature(type(plain).forward).parameters
    return {name: value for name, value in inputs.items() if takes_types or name != "mm_token_type_ids"}


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


def repeated(cache: Any, rows: int, copied: bool = True) -> Any:
    """Repeats the cache of one row for several; what has gradients cannot be copied, and is used once."""
    cache = copy.deepcopy(cache) if copied else cache
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
        training, dtypes = model.training, []
        model.eval()
        handle = model.get_output_embeddings().register_forward_hook(
            lambda *of_layer: dtypes.append(of_layer[2].dtype)
        )
        try:
            with torch.no_grad():
                whole, *_ = run_model(model, longer(inputs, ids), len(ids))
            *_, cache = run_model(model, inputs, 1, use_cache=True)
            cache = repeated(cache, 2, copied=not gradients)
            twice = following(inputs, ids.expand(2, -1), next_position(model, inputs, ids))
            parts, *_ = run_model(model, twice, len(ids), cache, use_cache=True)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            if gradients and trained:
                torch.autograd.grad(parts.float().mean(), trained, allow_unused=True)
            # As a share of the logits' spread; rounding explains less than these bounds.
            difference = ((parts[1].detach() - whole[0]).norm() / (whole[0] - whole[0].mean()).norm()).item()
            verdicts[gradients] = difference < (1e-4 if dtypes[0] == torch.float32 else 0.05)
        except Exception as error:  # a family's own way with its cache: whatever it raises, the plain way works
            verdicts[gradients], difference = False, error
        finally:
            handle.remove()
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
    cache = repeated(cache, len(tails), copied=False)
    inputs = following(inputs, tails, next_position(model, inputs, tails[0]))
    return run_model(model, inputs, kept, cache, use_cache=True)[:2]


class KeptPrompt:
    r"""
    A prompt that a model has read, to go on from without reading it again.

    Args:
        model (`nn.Module`): The model; not wrapped by DDP.
        inputs ([`BatchFeature`]): The inputs of the prompt, one row without padding.
        tail (`torch.LongTensor` of shape `(length,)`):
            An example of the tokens that follow it; behind `before` the tokens that are to be read.
        before ([`KeptPrompt`], *optional*): Its beginning, if that has been read already.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: BatchFeature,
        tail: torch.Tensor,
        before: "KeptPrompt | None" = None,
    ):
        self.model = model
        if before is None:
            self.inputs, self.position = inputs, next_position(model, inputs, tail)
            logits, _, self.cache = run_model(model, inputs, 1, use_cache=True)
        else:
            self.inputs = longer(before.inputs, tail)
            self.position = None if before.position is None else before.position + len(tail)
            logits, self.cache = before._run(tail[None], 1)
        self.logits = logits[0]  # (1, vocabulary), scores of the next token

    def _run(self, tails: torch.Tensor, kept: int) -> tuple[torch.Tensor, Any]:
        """Runs the model on `(rows, length)` tokens behind a copy of the prompt; returns logits and cache."""
        inputs, cache = following(self.inputs, tails, self.position), repeated(self.cache, len(tails))
        logits, _, cache = run_model(self.model, inputs, kept, cache, use_cache=True)
        return logits, cache

    def then(self, tail: torch.Tensor) -> "KeptPrompt":
        """Reads `(length,)` more tokens; this prompt stays as it is."""
        return KeptPrompt(self.model, self.inputs, tail, self)

    def logits_of(self, tails: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Returns for each of some `(length,)` tokens the scores `(length, vocabulary)` that they are chosen by."""
        behind = pad_sequence([tail[:-1] for tail in tails], batch_first=True)  # the last predicts nothing
        if behind.shape[1] == 0:
            return [self.logits] * len(tails)
        logits, _ = self._run(behind, behind.shape[1])
        return [torch.cat([self.logits, of_row[: len(tail) - 1]]) for of_row, tail in zip(logits, tails)]

    def write(self, max_new_tokens: int, ends: Sequence[int]) -> tuple[list[int], float]:
        """Writes the most likely token again and again; returns the tokens and the logarithm of their probability."""
        logits, position, cache = self.logits, self.position, repeated(self.cache, 1)
        tokens, log_p = [], 0.0
        while True:
            best = logits[-1].float().log_softmax(dim=0).max(dim=0)
            tokens.append(best.indices.item())
            log_p += best.values.item()
            if tokens[-1] in ends or len(tokens) == max_new_tokens:
                return tokens, log_p
            inputs = following(self.inputs, best.indices[None, None], position)
            (logits,), _, cache = run_model(self.model, inputs, 1, cache, use_cache=True)
            position = None if position is None else position + 1


class WholePrompt:
    """What [`KeptPrompt`] is, of a model whose cache cannot be copied: each answer is scored with the whole prompt."""

    def __init__(self, model: nn.Module, inputs: BatchFeature):
        self.model, self.inputs = model, inputs

    def then(self, tail: torch.Tensor) -> "WholePrompt":
        """Returns the prompt with `(length,)` more tokens."""
        return WholePrompt(self.model, longer(self.inputs, tail))

    def logits_of(self, tails: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See [`KeptPrompt.logits_of`]."""
        return [run_model(self.model, longer(self.inputs, tail), len(tail) + 1)[0][0, :-1] for tail in tails]

    def write(self, max_new_tokens: int, ends: Sequence[int]) -> tuple[list[int], float]:
        """See [`KeptPrompt.write`]."""
        plain, own = plain_model(self.model), plain_model(self.model).generation_config
        greedy = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(ends))
        greedy.pad_token_id = ends[0]
        try:
            plain.generation_config = GenerationConfig()  # the model's own settings would change answers
            output = plain.generate(
                **_accepted(plain, self.inputs),
                generation_config=greedy,
                return_dict_in_generate=True,
                output_logits=True,
            )
        finally:
            plain.generation_config = own
        tokens = output.sequences[0, -len(output.logits) :]
        log_p = torch.cat(output.logits).float().log_softmax(dim=-1).gather(1, tokens[:, None])
        return tokens.tolist(), log_p.sum().item()


def read_prompt(model: nn.Module, inputs: BatchFeature, tail: torch.Tensor) -> KeptPrompt | WholePrompt:
    """Reads a prompt, one row without padding; `tail` is an example of tokens that follow, see [`goes_on`]."""
    return KeptPrompt(model, inputs, tail) if goes_on(model, inputs, tail) else WholePrompt(model, inputs)


__all__ = ["KeptPrompt", "WholePrompt", "before", "read_prompt", "run_model", "run_shared"]
