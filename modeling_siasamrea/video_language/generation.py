"""Answers of a video-language model: how likely each is, and what the model writes."""

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .processing import VideoLanguageProcessor
from .shared_prompts import Prompt, plain_model


NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
ROWS_AT_A_TIME = 8  # the fewest answers that are scored together: they are short


def normalize_answer(text: str) -> str:
    """
    Returns a generated answer as the benchmarks write theirs: one line in lower case, without a full stop at its end.

    Args:
        text (`str`): What was generated.

    Returns:
        `str`: its first line that is not empty (decision), behind the end of the last thought.
    """
    lines = [" ".join(line.split()) for line in text.rpartition("</think>")[2].splitlines() if line.strip()]
    return lines[0].lower().removesuffix(".").rstrip() if lines else ""


def parse_count(text: str) -> float | None:
    """Returns the first number of a generated answer, in digits or a word up to twenty; `None` where there is none."""
    words = "|".join(sorted(NUMBER_WORDS, key=len, reverse=True))
    found = re.search(rf"(-?\d+(?:\.\d+)?)|\b({words})\b", text.rpartition("</think>")[2].lower())
    if found is None:
        return None
    return float(found[1]) if found[1] else float(NUMBER_WORDS.index(found[2]))


@torch.no_grad()
def answer_questions(
    model: nn.Module, processor: VideoLanguageProcessor, asked: dict[str, Any], rows_at_a_time: int = ROWS_AT_A_TIME
) -> list[tuple[torch.Tensor, str | None, float | None]]:
    r"""
    Scores answers to questions about one clip, and writes the model's own: greedily, so that the same question has the
    same answer again. The clip and what all questions begin with go through the model once.

    Args:
        model (`nn.Module`): The model, or a `PeftModel`; not wrapped by DDP.
        processor ([`VideoLanguageProcessor`]): Decodes, and says how long an answer may be.
        asked (`dict`):
            What [`~VideoLanguageProcessor.share`] returns, and for each question `writes`, whether the model is to
            write an answer.
        rows_at_a_time (`int`, *optional*, defaults to 8): The most answers that go through the model together.

    Returns:
        `list[tuple]`: for each question the log-likelihoods `(answers,)` of the answers to be scored, each of a whole
        answer with the token that ends it, not divided by its length (decision: so it is the logarithm of a
        probability); the text that the model writes, and its probability, or `None`.
    """
    prompts, answers, lengths = (asked[name] for name in ("prompts", "answers", "lengths"))
    # An only question's prompt is read as a whole, and nothing of it is left.
    example = prompts[0] if len(prompts[0]) else asked["inputs"]["input_ids"][0, -4:]
    shared = Prompt(model, asked["inputs"], example)
    answered: list[tuple] = [()] * len(prompts)
    for places in _together(asked, rows_at_a_time):
        first = places[0]
        kept = shared.then(torch.stack([prompts[place] for place in places])) if len(prompts[first]) else shared
        # A choice has several answers, other questions have one at most.
        pairs = [pair for place in places for pair in zip(answers[place], lengths[place])]
        starts = [prompts[place] for place in places for _ in answers[place]]
        scores = [
            score
            for begin in range(0, len(pairs), rows_at_a_time)
            for score in _score(shared, kept, *(of[begin : begin + rows_at_a_time] for of in (starts, pairs)))
        ]
        of_each = torch.tensor(scores).view(len(places), len(answers[first]))  # (questions, answers)
        written = [(None, None)] * len(places)
        if asked["writes"][first]:
            rows = kept.write(processor.settings.max_new_tokens, _end_tokens(model, processor))
            written = [
                (processor.tokenizer.decode(tokens, skip_special_tokens=True), math.exp(log_p))
                for tokens, log_p in rows
            ]
        for place, log_p, text in zip(places, of_each, written):
            answered[place] = (log_p, *text)
    return answered


def _together(asked: dict[str, Any], most: int) -> Iterator[list[int]]:
    """Yields the places of the questions that go on together: those that are written to, with prompts as long."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, (prompt, answers, writes) in enumerate(zip(asked["prompts"], asked["answers"], asked["writes"])):
        key = (len(prompt), len(answers)) if writes else (len(prompt), len(answers), place)
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        yield from (places[begin : begin + most] for begin in range(0, len(places), most))


def _score(
    shared: Prompt, kept: Prompt, prompts: list[torch.Tensor], pairs: list[tuple[torch.Tensor, int]]
) -> list[float]:
    """Returns the log-likelihoods of answers, whose tokens begin with those of their prompts."""
    start = len(prompts[0])
    if not all(torch.equal(tail[:start], prompt) for (tail, _), prompt in zip(pairs, prompts)):
        start, kept = 0, shared  # the first token of an answer took some of the prompt in
    tails = [tail[start:] for tail, _ in pairs]
    scores = []
    for logits, tail, (_, length) in zip(kept.logits_of(tails), tails, pairs):
        log_p = logits[-length:].float().log_softmax(dim=-1)
        scores.append(log_p.gather(1, tail[-length:, None]).sum().item())
    return scores


def _end_tokens(model: nn.Module, processor: VideoLanguageProcessor) -> list[int]:
    """Returns the tokens that end an answer: the model's own, the tokenizer's, and the one that answers end with."""
    of_model = plain_model(model).generation_config.eos_token_id
    of_model = [] if of_model is None else of_model if isinstance(of_model, list) else [of_model]
    end = processor.tokenizer(processor.end, add_special_tokens=False)["input_ids"][0]
    return sorted({*of_model, processor.tokenizer.eos_token_id, end})


__all__ = ["answer_questions", "normalize_answer", "parse_count"]
