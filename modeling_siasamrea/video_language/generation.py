"""Scores answers with a video-language model, and lets it write its own."""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from .data import token_labels
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
        `str`: its first line that is not empty, after the last thought (decision).
    """
    lines = [" ".join(line.split()) for line in text.rpartition("</think>")[2].splitlines() if line.strip()]
    return lines[0].lower().removesuffix(".").rstrip() if lines else ""


def parse_count(text: str) -> float | None:
    """Returns the first number of a generated answer, in digits or a word up to twenty; `None` where there is none."""
    found = re.search(rf"(-?\d+(?:\.\d+)?)|\b({'|'.join(NUMBER_WORDS)})\b", text.rpartition("</think>")[2].lower())
    if found is None:
        return None
    return float(found[1]) if found[1] else float(NUMBER_WORDS.index(found[2]))


@torch.no_grad()
def answer_questions(
    model: nn.Module, processor: VideoLanguageProcessor, asked: dict[str, Any], rows_at_a_time: int = ROWS_AT_A_TIME
) -> list[tuple[torch.Tensor, str | None, float | None]]:
    r"""
    Scores answers to questions about one clip, and writes the model's own, greedily. The clip and what all questions
    begin with go through the model once.

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
    prompts = asked["prompts"]
    beginning = Prompt(model, asked["inputs"], prompts[0])
    tails = [tail for answers in asked["answers"] for tail in answers]
    lengths = [length for answers in asked["lengths"] for length in answers]
    scores: list[float] = []
    for first in range(0, len(tails), rows_at_a_time):
        rows = tails[first : first + rows_at_a_time]
        labels = token_labels(rows, lengths[first : first + rows_at_a_time])  # (rows, positions)
        logits, _ = beginning.copy().repeat(len(rows)).read(pad_sequence(rows, batch_first=True), labels.shape[1])
        losses = nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
        scores += (-losses.sum(dim=1)).tolist()
    written: list[tuple[str | None, float | None]] = [(None, None)] * len(prompts)
    by_length: dict[int, list[int]] = {}
    for place, writes in enumerate(asked["writes"]):
        if writes:
            by_length.setdefault(len(prompts[place]), []).append(place)
    ends = _end_tokens(model, processor)
    for places in by_length.values():
        for first in range(0, len(places), rows_at_a_time):
            some = places[first : first + rows_at_a_time]
            prompt = beginning.copy().repeat(len(some))
            rows = torch.stack([prompts[place] for place in some])
            for place, (tokens, log_p) in zip(some, write(prompt, rows, processor.settings.max_new_tokens, ends)):
                written[place] = (processor.tokenizer.decode(tokens, skip_special_tokens=True), math.exp(log_p))
    of_questions = torch.tensor(scores).split([len(answers) for answers in asked["answers"]])
    return [(log_p, *of_one) for log_p, of_one in zip(of_questions, written)]


def write(
    prompt: Prompt, tails: torch.Tensor, max_new_tokens: int, ends: Sequence[int]
) -> list[tuple[list[int], float]]:
    r"""
    Writes the most likely token again and again.

    Args:
        prompt ([`Prompt`]): What the rows begin with.
        tails (`torch.LongTensor` of shape `(rows, length)`): What follows in each row, before the answer.
        max_new_tokens (`int`): Most tokens of an answer.
        ends (`Sequence[int]`): The tokens that end one.

    Returns:
        `list[tuple[list[int], float]]`: for each row the tokens, without the one that ends them, and the logarithm of
        their probability.
    """
    written: list[list[int]] = [[] for _ in tails]
    log_p, ended = [0.0] * len(written), [False] * len(written)
    for _ in range(max_new_tokens):
        logits, _ = prompt.read(tails, 1)  # (rows, 1, vocabulary)
        best = logits[:, -1].float().log_softmax(dim=-1).max(dim=-1)
        for row, (token, value) in enumerate(zip(best.indices.tolist(), best.values.tolist())):
            if not ended[row]:
                log_p[row] += value
                ended[row] = token in ends
                written[row] += [] if ended[row] else [token]
        if all(ended):
            break
        tails = best.indices[:, None]
    return list(zip(written, log_p))


def _end_tokens(model: nn.Module, processor: VideoLanguageProcessor) -> list[int]:
    """Returns the tokens that end an answer: the model's own, the tokenizer's, and the one that answers end with."""
    of_model = plain_model(model).generation_config.eos_token_id
    of_model = [] if of_model is None else of_model if isinstance(of_model, list) else [of_model]
    end = processor.tokenizer(processor.end, add_special_tokens=False)["input_ids"][0]
    return sorted({*of_model, processor.tokenizer.eos_token_id, end})
