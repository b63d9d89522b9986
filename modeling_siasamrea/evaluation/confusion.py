"""Counts which answers are given where others are right."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


OTHER = "(other)"


def answer_texts(line: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """
    Returns the answers of a line of a predictions file as text, as they are scored: the right ones (none if they are
    not known), and the given one (`None` if there is none).
    """
    rights, given = line.get("answer"), line.get("prediction_text", line.get("prediction"))
    rights = rights if isinstance(rights, list) else [line.get("answer_text", rights)]
    return [_text(right) for right in rights if right is not None], None if given is None else _text(given)


def _text(answer: str | float) -> str:
    return str(int(answer) if isinstance(answer, float) and answer.is_integer() else answer)


def confusion_table(lines: Iterable[Mapping[str, Any]], most: int = 12) -> tuple[list[str], list[list[int]]]:
    r"""
    Counts for each right answer how often each answer was given.

    Args:
        lines (`Iterable[Mapping]`): Lines of a predictions file, see [`prediction_row`].
        most (`int`, *optional*, defaults to 12): The most frequent answers, right or given; others share the last row.

    Returns:
        `tuple(list[str], list[list[int]])`: The answers, and the counts by right answer (row) and given answer.
    """
    pairs = []
    for line in lines:
        rights, given = answer_texts(line)
        if rights and given is not None:
            pairs.append((given if line.get("correct") else rights[0], given))
    counts = Counter(name for pair in pairs for name in pair)
    commonest = [name for name, _ in counts.most_common(most)]
    names = sorted(commonest) + [OTHER] * (len(counts) > len(commonest))
    place = {name: index for index, name in enumerate(names)}
    table = [[0] * len(names) for _ in names]
    for right, given in pairs:
        table[place.get(right, len(commonest))][place.get(given, len(commonest))] += 1
    return names, table
