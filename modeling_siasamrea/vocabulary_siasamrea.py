"""Vocabularies made from training rows: the answers of the open-ended head, and the words of a new tokenizer."""

import re
from collections import Counter
from collections.abc import Iterable

from transformers import BertTokenizer

from .annotations_siasamrea import VideoQuestion


def _commonest_first(items: Iterable[str]) -> list[str]:
    """Each distinct item once, by falling count; alphabetical where counts tie."""
    return [item for item, _ in sorted(Counter(items).items(), key=lambda pair: (-pair[1], pair[0]))]


def answer_vocabulary(questions: Iterable[VideoQuestion], size: int | None = 1000) -> list[str]:
    r"""
    The answers an open-ended head chooses from: the commonest answers of the training rows.

    Args:
        questions (`Iterable[VideoQuestion]`): Training rows; those of other tasks are passed over.
        size (`int`, *optional*, defaults to 1000): Answers to keep; `None` keeps all. Paper: 1000 for MSRVTT-QA.

    Returns:
        `list[str]`: the answers by falling count, ties in alphabetical order (decision).
    """
    return _commonest_first(question.answer for question in questions if question.task == "open_ended")[:size]


def vocabulary_coverage(questions: Iterable[VideoQuestion], vocabulary: Iterable[str]) -> float:
    """Share of open-ended rows whose answer is in the vocabulary: the highest accuracy a model can reach on them."""
    known = set(vocabulary)
    answers = [question.answer in known for question in questions if question.task == "open_ended"]
    return sum(answers) / len(answers) if answers else 0.0


def build_tokenizer(questions: Iterable[VideoQuestion], size: int = 2000, max_length: int = 64) -> BertTokenizer:
    r"""
    A small BERT tokenizer for training from random weights: the words of questions and candidates, and every character
    in them, so that a new word is spelled instead of lost.

    Args:
        questions (`Iterable[VideoQuestion]`): Training rows.
        size (`int`, *optional*, defaults to 2000): Words to keep, by falling count.
        max_length (`int`, *optional*, defaults to 64): Longest text, in tokens.

    Returns:
        `BertTokenizer`: lower-casing, with the usual special tokens.
    """
    texts = [text.lower() for question in questions for text in (question.question, *(question.candidates or ()))]
    words = _commonest_first(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text))
    characters = sorted({character for word in words for character in word})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{piece}" for piece in characters)]
    pieces += [word for word in words[:size] if len(word) > 1]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)


__all__ = ["answer_vocabulary", "build_tokenizer", "vocabulary_coverage"]
