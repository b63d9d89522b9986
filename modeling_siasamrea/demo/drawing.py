"""Drawings of answers and of an [`Inspection`], as HTML that is as readable on a dark page as on a light one."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .inspection import Inspection


STYLE = Path(__file__).with_suffix(".css")  # for the page that shows the drawings
TERMS = {
    "anchor clip": "The frames that the answer is based on: one every few seconds over the whole video.",
    "siamese clip": "Frames like those of the anchor clip that start a little earlier or later.",
    "affinity": "How similar the model finds two clips of this video, from 0 to 1.",
    "soft label": "The answers of all clips, weighted by affinity. In training the anchor clip learns from it.",
}


def picture(frame: np.ndarray) -> str:
    """Returns a frame `(height, width, 3)` as an address that holds the picture itself."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def draw_answers(
    questions: list[str], answers: list[list[dict[str, Any]]], unknown_words: list[list[str]] | None = None
) -> str:
    r"""
    Draws each question with its best answer and the scores as bars.

    Args:
        questions (`list[str]`): The questions.
        answers (`list[list[dict]]`): The pipeline's answers to each.
        unknown_words (`list[list[str]]`, *optional*): For each question, see [`~SiaSamReaProcessor.unknown_words`].

    Returns:
        `str`: HTML.
    """
    cards = []
    for question, ranked, unknown in zip(questions, answers, unknown_words or [[]] * len(questions)):
        if "score" in ranked[0]:
            bars = "".join(_bar(str(one["answer"]), one["score"]) for one in ranked)
        else:
            value = ranked[0]["value"]
            bars = "<p>That is no number.</p>" if value is None else f"<p>The model counts {value:.2f}.</p>"
        if unknown:
            words = ", ".join(map(escape, unknown))
            warning = f"<b>Uncertain:</b> the model never learned {words}. Try another word."
            bars = f'<p class="uncertain">{warning}</p>{bars}'
        cards.append(_card(question, ranked[0]["answer"], bars))
    return _box("".join(cards))


def draw_other_starts(questions: list[str], starts: Sequence[float], answers: list[list[list[dict[str, Any]]]]) -> str:
    r"""
    Draws the answers of a video-language model from other frames of the video.

    Args:
        questions (`list[str]`): The questions.
        starts (`Sequence[float]`): First frames of the anchor clips, in seconds; the first one is the answer's own.
        answers (`list[list[list[dict]]]`): For each start and question the pipeline's answers.

    Returns:
        `str`: HTML.
    """
    cards = []
    for row, question in enumerate(questions):
        ranked = [of_start[row] for of_start in answers]
        best = [str(of_start[0]["answer"]) for of_start in ranked]
        drawn = []
        for seconds, of_start in zip(starts, ranked):
            bars = "".join(_bar(str(one["answer"]), one["score"]) for one in of_start if "score" in one)
            bars = bars or f"<b>{escape(str(of_start[0]['answer']))}</b>"
            drawn.append(f'<div>from {seconds:.2f} s<div class="given">{bars}</div></div>')
        cards.append(_card(question, best[0], _starts(best[1:].count(best[0]), best[0], drawn[1:])))
    return _box("".join(cards))


def draw_timeline(frames: np.ndarray, times: np.ndarray, start: float, end: float, duration: float) -> str:
    r"""
    Draws the frames of a clip under a time axis, each joined to its moment.

    Args:
        frames (`np.ndarray` of shape `(frames, height, width, 3)`): The pictures.
        times (`np.ndarray` of shape `(frames,)`): When they show, in seconds.
        start (`float`): Start of the span asked about, in seconds.
        end (`float`): Its end.
        duration (`float`): Length of the video, in seconds.

    Returns:
        `str`: HTML.
    """
    margin, width, axis, gap = 12, 976, 24, 6
    step = width / len(frames)
    side = step - gap
    height = min(side * frames.shape[1] / frames.shape[2], 180)
    top = axis + 34

    def place(seconds: float) -> float:
        return margin + width * min(seconds / duration, 1.0)

    text = 'font-size="13" fill="currentColor" text-anchor="middle"'
    parts = [
        f'<line x1="{place(0)}" x2="{place(duration)}" y1="{axis}" y2="{axis}" stroke="currentColor" opacity="0.3" '
        'stroke-width="3" stroke-linecap="round"/>',
        f'<line x1="{place(start):.1f}" x2="{place(end):.1f}" y1="{axis}" y2="{axis}" style="stroke: var(--strong)" '
        'stroke-width="5" stroke-linecap="round"/>',
        f'<text x="{margin}" y="12" {text.replace("middle", "start")}>0 s</text>',
        f'<text x="{margin + width}" y="12" {text.replace("middle", "end")}>{duration:.2f} s</text>',
    ]
    for index, (frame, seconds) in enumerate(zip(frames, times)):
        centre = margin + step * (index + 0.5)
        parts += [
            f'<path d="M{place(seconds):.1f} {axis} V{axis + 10} L{centre:.1f} {top - 6} V{top}" fill="none" '
            'style="stroke: var(--strong)" stroke-width="1.5"/>',
            f'<circle cx="{place(seconds):.1f}" cy="{axis}" r="5" style="fill: var(--strong)"/>',
            f'<image x="{centre - side / 2:.1f}" y="{top}" width="{side:.1f}" height="{height:.1f}" '
            f'href="{picture(frame)}" preserveAspectRatio="xMidYMid slice"/>',
            f'<text x="{centre:.1f}" y="{top + height + 17:.1f}" {text} class="time">{seconds:.2f} s</text>',
        ]
    label = f"The anchor clip's frames at {', '.join(f'{seconds:.2f}' for seconds in times)} seconds"
    drawing = f'<svg viewBox="0 0 1000 {top + height + 24:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    title = f"<h2>What the model saw: the {_term('anchor clip')}, {len(frames)} frames</h2>"
    return _box(f'{title}<div class="wide">{drawing}</div>')


def draw_span(film: np.ndarray, ends: np.ndarray, start: float, end: float, duration: float) -> str:
    r"""
    Draws a video as a strip of film with the span marked on it, and the frames at the span's ends.

    Args:
        film (`np.ndarray` of shape `(frames, height, width, 3)`): Pictures spread evenly over the video.
        ends (`np.ndarray` of shape `(2, height, width, 3)`): The span's first and last frame.
        start (`float`): Start of the span, in seconds.
        end (`float`): End of the span, in seconds.
        duration (`float`): Length of the video, in seconds.

    Returns:
        `str`: HTML.
    """
    left, right = (100 * min(max(seconds / duration, 0), 1) for seconds in (start, end))
    ratio = min(film.shape[2] / film.shape[1], 1.0)  # wide pictures are cut to squares, so that the strip is not thin
    strip = "".join(f'<img src="{picture(frame)}" alt="" style="aspect-ratio: {ratio:.3f}"/>' for frame in film)
    strip += f'<div class="outside" style="left: 0; width: {left:.2f}%"></div>'
    strip += f'<div class="outside" style="left: {right:.2f}%; right: 0"></div>'
    strip += f'<div class="inside" style="left: {left:.2f}%; width: {right - left:.2f}%"></div>'
    pictures = draw_frames(ends, (f"from {start:.2f} s", f"to {end:.2f} s"))
    return _box(f'<div class="film">{strip}</div><div class="ends">{pictures}</div>')


def draw_frames(frames: np.ndarray, captions: Iterable[str]) -> str:
    """Draws frames `(frames, height, width, 3)`, each over its caption."""
    return "".join(
        f'<figure><img src="{picture(frame)}" alt=""/><figcaption>{caption}</figcaption></figure>'
        for frame, caption in zip(frames, captions)
    )


def draw_table(corner: str, names: Sequence[str], cells: Iterable[Iterable[tuple[str, str, float]]]) -> str:
    """Draws a table whose rows and columns have the same names; a cell has a text, a color and its percentage."""
    rows = []
    for name, row in zip(names, cells):
        drawn = (
            f'<td style="background: color-mix(in srgb, var(--{color}) {share:.0f}%, transparent)">{text}</td>'
            for text, color, share in row
        )
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(drawn)}</tr>")
    head = f"<tr><td>{corner}</td>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def draw_inspections(inspections: Iterable[Inspection], top: int = 5) -> str:
    r"""
    Draws the look inside at each question: clips, affinity, soft label and other starts.

    Args:
        inspections (`Iterable[Inspection]`): One per question.
        top (`int`, *optional*, defaults to 5): Number of classes whose soft label is drawn, the greatest ones.

    Returns:
        `str`: HTML.
    """
    cards = []
    for seen in inspections:
        columns = f"<div>{_affinity(seen.affinity)}</div><div>{_soft_label(seen, top)}</div>"
        starts = [
            f"<div>from {seconds:.2f} s{_answer(seen, scores)}</div>"
            for seconds, scores in zip(seen.start_times, seen.start_scores)
        ]
        content = f'{_clips(seen)}<div class="columns">{columns}</div>'
        content += _starts(seen.agreeing_starts, str(seen.anchor_answer), starts)
        cards.append(_card(seen.question, seen.anchor_answer, content))
    return _box("".join(cards))


def draw_notice(sentence: str) -> str:
    """Draws a sentence that says what went wrong; nothing for none."""
    return f'<div class="siasamrea notice" role="alert">{escape(sentence)}</div>' if sentence else ""


def _term(name: str, shown: str = "") -> str:
    """Explains a word of the field under the mouse, the keyboard's focus, and for screen readers."""
    return f'<abbr tabindex="0" title="{escape(TERMS[name])}">{shown or name}</abbr>'


def _box(content: str) -> str:
    return f'<div class="siasamrea">{content}</div>'


def _card(question: str, answer: str | int, content: str) -> str:
    head = f'<p class="question">{escape(question)}</p><div class="answer">{escape(str(answer))}</div>'
    return f'<div class="card">{head}{content}</div>'


def _starts(same: int, answer: str, drawn: list[str]) -> str:
    """Says whether other frames change the answer, and shows what each start answers."""
    title = "<h2>Do other frames of the video change the answer?</h2>"
    if not drawn:
        return f"{title}<p>Not known: the span is so short that its frames can be picked in one way only.</p>"
    verdict, noun = "No" if same == len(drawn) else "Yes", "start gives" if len(drawn) == 1 else "starts give"
    text = f"{verdict}: {same} of {len(drawn)} other {noun} the same answer, {escape(answer)}."
    return f'{title}<p>{text}</p><div class="starts">{"".join(drawn)}</div>'


def _bar(name: str, share: float, kind: str = "") -> str:
    fill = f'<div class="fill {kind}" style="width: {100 * min(max(share, 0), 1):.1f}%"></div>'
    return (
        f'<div class="bar"><span>{escape(name)}</span><div class="track">{fill}</div>'
        f'<span class="number">{share:.3f}</span></div>'
    )


def _answer(inspection: Inspection, scores: np.ndarray) -> str:
    """Shows the answer of a clip with its probability, or a count with the model's number."""
    answer = str(inspection.answer(scores))
    if inspection.task != "count":
        return f'<div class="given">{_bar(answer, float(scores.max()))}</div>'
    return f'<div class="given"><b>{escape(answer)}</b> <span class="number">({scores[0]:.2f})</span></div>'


def _clips(inspection: Inspection) -> str:
    rows = []
    for number, (frames, times, scores) in enumerate(zip(inspection.frames, inspection.times, inspection.scores)):
        name = f"{_term('siamese clip')} {number}" if number else _term("anchor clip")
        head = f'<div>{name}<div class="from">from {times[0]:.2f} s</div></div>'
        images = "".join(
            f'<img src="{picture(frame)}" alt="" title="{seconds:.2f} s"/>' for frame, seconds in zip(frames, times)
        )
        kind = "clip" if number else "clip anchor"
        images = f'<div class="frames">{images}</div>'
        rows.append(f'<div class="{kind}">{head}{images}{_answer(inspection, scores)}</div>')
    same = sum(inspection.answer(scores) == inspection.anchor_answer for scores in inspection.scores[1:])
    text = (
        f"Each clip sees the whole span from a slightly different start. {same} of {len(rows) - 1} siamese clips give "
        "the anchor clip's answer."
    )
    return f"<h2>Clips and their answers</h2><p>{text}</p>{''.join(rows)}"


def _affinity(affinity: np.ndarray) -> str:
    """Draws the affinity on a fixed scale, on which the plain average has half of the color."""
    average = 1 / (len(affinity) - 1)
    names = ["anchor", *(str(number) for number in range(1, len(affinity)))]
    cells = [
        [
            ("–", "strong", 0.0) if row == column else (f"{value:.3f}", "strong", min(35 * value / average, 70))
            for column, value in enumerate(of_row)
        ]
        for row, of_row in enumerate(affinity.tolist())
    ]
    text = f"How much each clip (row) listens to each other one. {average:.3f} everywhere is a plain average."
    return f"<h2>{_term('affinity', 'Affinity')}</h2><p>{text}</p>{draw_table('', names, cells)}"


def _soft_label(inspection: Inspection, top: int) -> str:
    anchor, soft_label = inspection.scores[0], inspection.soft_label
    title = f"<h2>The {_term('soft label')} Q beside the anchor clip's prediction</h2>"
    if inspection.task == "count":
        return f"{title}<p>The anchor counts {anchor[0]:.2f}, all clips together {soft_label[0]:.2f}.</p>"
    text = (
        "Q joins the answers of all clips. "
        '<span class="key" style="background: var(--strong)"></span>anchor clip &nbsp; '
        '<span class="key" style="background: var(--other)"></span>Q'
    )
    best = np.argsort(-np.maximum(anchor, soft_label))[:top]
    bars = "".join(
        f'<div class="pair">{_bar(inspection.classes[index], float(anchor[index]))}'
        f"{_bar('', float(soft_label[index]), 'other')}</div>"
        for index in best
    )
    return f"{title}<p>{text}</p>{bars}"


__all__ = [
    "STYLE",
    "draw_answers",
    "draw_frames",
    "draw_inspections",
    "draw_notice",
    "draw_other_starts",
    "draw_span",
    "draw_table",
    "draw_timeline",
    "picture",
]
