"""Draws the answers of a predictions file as one HTML file: wrong answers first, with the frames that were seen."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..data.tables import read_jsonl
from ..evaluation.confusion import confusion_table
from .drawing import STYLE, picture


Line = dict[str, Any]
SeenFrames = tuple[np.ndarray, np.ndarray]  # pictures (frames, height, width, 3) and their times in seconds

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ --body-text-color: #18181b; --border-color-primary: #d4d4d8; --background-fill-secondary: #f4f4f5;
  --body-background-fill: #fff; color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ --body-text-color: #f4f4f5; --border-color-primary: #52525b;
  --background-fill-secondary: #27272a; --body-background-fill: #18181b; }} }}
body {{ font-family: system-ui, sans-serif; max-width: 1000px; margin: 24px auto; padding: 0 16px;
  background: var(--body-background-fill); color: var(--body-text-color); }}
form {{ display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; margin: 16px 0; }}
.review .frames img {{ max-height: 96px; }} .review .facts {{ display: flex; flex-wrap: wrap; gap: 4px 24px; }}
.review .wrong {{ color: #b91c1c; }} [hidden] {{ display: none; }}
@media (prefers-color-scheme: dark) {{ .review .wrong {{ color: #fca5a5; }} }}
{style}</style></head><body class="siasamrea review"><h1>{title}</h1><p>{summary}</p>{confusion}
<form><label>Show <select name="right"><option value="wrong">wrong answers</option>
<option value="">all answers</option></select></label>
<label>Kind <select name="kind"><option value="">all</option>{kinds}</select></label>
<label>Score at least <input name="low" type="number" min="0" max="1" step="0.05" value="0"></label>
<output></output></form>{cards}<script>
const form = document.querySelector("form"), cards = [...document.querySelectorAll(".card")];
const filter = () => {{
  const {{right, kind, low}} = Object.fromEntries(new FormData(form));
  let shown = 0;
  for (const card of cards) {{
    const {{right: isRight, kind: itsKind, score}} = card.dataset;
    card.hidden = (right && isRight === "true") || (kind && kind !== itsKind) || Number(score) < Number(low);
    shown += !card.hidden;
  }}
  form.querySelector("output").textContent = `${{shown}} of ${{cards.length}} shown`;
}};
form.addEventListener("input", filter);
filter();
</script></body></html>
"""


def read_predictions(path: str | Path) -> list[Line]:
    r"""
    Reads a predictions file.

    Args:
        path (`str` or `Path`): A `predictions.jsonl` that an evaluation wrote.

    Returns:
        `list[dict]`: its lines, see [`prediction_row`].

    Raises:
        `ValueError`: If a line is no prediction.
    """
    lines = list(read_jsonl(Path(path)))
    for number, line in enumerate(lines, start=1):
        missing = [name for name in ("question_id", "video", "question", "task", "prediction") if name not in line]
        if missing:
            raise ValueError(f"{path} is no predictions file: line {number} has no {missing[0]!r}.")
    return lines


def given_answer(line: Line) -> str:
    """The answer that was given, as text."""
    return str(line.get("prediction_text", line["prediction"]))


def right_answers(line: Line) -> list[str]:
    """The right answers, as text; none where they are not known."""
    if "answer" not in line:
        return []
    if line["task"] == "multiple_choice":
        return [line["answer_text"]] if "answer_text" in line else [f"candidate {line['answer'] + 1}"]
    answer = line["answer"]
    return [str(right) for right in (answer if isinstance(answer, list) else [answer])]


def kind(line: Line) -> str:
    """The kind of question: its type where it has one, else its task."""
    return str(line.get("question_type") or line["task"])


def by_error(lines: Sequence[Line]) -> list[Line]:
    """Sorts wrong answers to the top, the surest first; then come rows without a right answer, then right ones."""
    order = {False: 0, None: 1, True: 2}
    return sorted(lines, key=lambda line: (order[line.get("correct")], -line.get("score", 0.0)))


def draw_confusion(lines: Sequence[Line]) -> str:
    """Draws the counts of right answers (rows) against given ones; nothing where no right answer is known."""
    names, counts = confusion_table(lines)
    if not names:
        return ""
    rows = []
    for row, (name, of_row) in enumerate(zip(names, counts)):
        cells = []
        for column, count in enumerate(of_row):
            colour = "var(--strong)" if row == column else "var(--other)"
            share = 80 * count / max(sum(of_row), 1)
            cells.append(
                f'<td style="background: color-mix(in srgb, {colour} {share:.0f}%, transparent)">{count or ""}</td>'
            )
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    head = "<tr><th>right \\ given</th>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"
    return f'<h3>Which answers are taken for which</h3><div class="wide"><table>{head}{"".join(rows)}</table></div>'


def draw_review(
    lines: Sequence[Line], seen: Callable[[Line], SeenFrames | str], title: str, most: int | None = None
) -> str:
    r"""
    Draws a predictions file as one HTML page that needs no other file.

    Args:
        lines (`Sequence[dict]`): Lines of a predictions file.
        seen (`Callable`): Gives the frames that the model saw of a line's video, or a sentence why there are none.
        title (`str`): Title of the page.
        most (`int`, *optional*): Lines that are drawn at most, wrong ones first; the counts are of all lines.

    Returns:
        `str`: HTML.
    """
    known = [line["correct"] for line in lines if "correct" in line]
    drawn = by_error(lines)[:most]
    summary = f"{sum(known)} of {len(known)} answers are right. {len(drawn)} of {len(lines)} answers are drawn."
    kinds = "".join(f"<option>{escape(name)}</option>" for name in sorted({kind(line) for line in drawn}))
    return PAGE.format(
        title=escape(title),
        style=STYLE.read_text(encoding="utf-8"),
        summary=summary,
        confusion=draw_confusion(lines),
        kinds=kinds,
        cards="".join(_card(line, seen(line)) for line in drawn),
    )


def _card(line: Line, seen: SeenFrames | str) -> str:
    """A line of the file: question, right and given answer, answers from other starts, and frames."""
    correct = line.get("correct")
    facts = [f'given: <b class="{"wrong" if correct is False else ""}">{escape(given_answer(line))}</b>']
    rights = right_answers(line)
    facts += [f"right: <b>{escape(' or '.join(rights))}</b>"] if rights else []
    facts += [f"score: {line['score']:.3f}"] if "score" in line else []
    starts = line.get("answers", [])
    if len(starts) > 1:
        same = sum(answer == starts[0] for answer in starts)
        facts.append(f"the same answer from {same} of {len(starts)} starts")
    if isinstance(seen, str):
        frames = f"<p>{escape(seen)}</p>"
    else:
        figures = "".join(
            f'<figure style="margin: 0"><img src="{picture(frame)}" alt="">'
            f'<figcaption class="from">{seconds:.2f} s</figcaption></figure>'
            for frame, seconds in zip(*seen)
        )
        frames = f'<div class="frames wide">{figures}</div>'
    marks = f'data-right="{str(bool(correct)).lower()}" data-kind="{escape(kind(line))}"'
    marks += f' data-score="{line.get("score", 1)}"'
    head = f'<p class="question">{escape(line["question"])}</p><p class="from">{escape(str(line["video"]))}</p>'
    spans = "".join(f"<span>{fact}</span>" for fact in facts)
    return f'<div class="card" {marks}>{head}<div class="facts">{spans}</div>{frames}</div>'


__all__ = ["draw_confusion", "draw_review", "read_predictions"]
