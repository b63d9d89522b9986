"""Which answers are taken for which others."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


OTHER = "(other)"


def right_and_given(line: Mapping[str, Any]) -> tuple[str, str] | None:
    """
    The right and the given answer of a line of a predictions file as text, counts rounded; `None` if one is missing.
    """
    right, given = line.get("answer"), line.get("prediction")
    if right is None or given is None:
        return None
    right = line.get("answer_text", right[0] if isinstance(right, list) else right)
    if isinstance(line["answer"], list) and given in line["answer"]:
        right = given  # several answers are right
    given = line.get("prediction_text", given)
    return tuple(str(round(text)) if isinstance(text, float) else str(text) for text in (right, given))


def confusion_table(lines: Iterable[Mapping[str, Any]], most: int = 12) -> tuple[list[str], list[list[int]]]:
    r"""
    Counts for each right answer how often each answer was given.

    Args:
        lines (`Iterable[Mapping]`): Lines of a predictions file, see [`prediction_row`].
        most (`int`, *optional*, defaults to 12): The commonest right answers that get a row; others share the last.

    Returns:
        `tuple(list[str], list[list[int]])`: The answers, and the counts by right answer (row) and given answer.
    """
    pairs = [pair for pair in map(right_and_given, lines) if pair is not None]
    commonest = [name for name, _ in Counter(right for right, _ in pairs).most_common(most)]
    names = sorted(commonest) + [OTHER] * any(name not in commonest for pair in pairs for name in pair)
    place = {name: index for index, name in enumerate(names)}
    table = [[0] * len(names) for _ in names]
    for right, given in pairs:
        table[place.get(right, len(commonest))][place.get(given, len(commonest))] += 1
    return names, table


__all__ = ["confusion_table", "right_and_given"]
