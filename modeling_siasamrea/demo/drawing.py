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
        answers (`list[list[dict]]`): What the pipeline answered to each.
        unknown_words (`list[list[str]]`, *optional*): Of each question, see [`~SiaSamReaProcessor.unknown_words`].

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
        head = _head(question, ranked[0]["answer"])
        if unknown:
            words = ", ".join(map(escape, unknown))
            head += f'<p class="uncertain"><b>Uncertain:</b> the model never learned {words}. Try another word.</p>'
        cards.append(f'<div class="card">{head}{bars}</div>')
    return _box("".join(cards))


def draw_vocabulary(answers: list[str]) -> str:
    """Draws a list of all answers that a model can give."""
    return _box(f'<p class="vocabulary">{", ".join(map(escape, answers))}</p>')


def draw_other_starts(questions: list[str], starts: Sequence[float], answers: list[list[list[dict[str, Any]]]]) -> str:
    r"""
    Draws what a video-language model answers from other frames of the video.

    Args:
        questions (`list[str]`): The questions.
        starts (`Sequence[float]`): First frames of the anchor clips, in seconds; the first one is the answer's own.
        answers (`list[list[list[dict]]]`): For each start and question what the pipeline answers.

    Returns:
        `str`: HTML.
    """
    cards = []
    for row, question in enumerate(questions):
        ranked = [of_start[row] for of_start in answers]
        given = str(ranked[0][0]["answer"])
        same = sum(str(one[0]["answer"]) == given for one in ranked[1:])
        drawn = []
        for seconds, best in zip(starts, ranked):
            scores = [(str(one["answer"]), one["score"]) for one in best if "score" in one]
            bars = "".join(_bar(*one) for one in scores) or f"<b>{escape(str(best[0]['answer']))}</b>"
            drawn.append(f'<div>from {seconds:.2f} s<div class="given">{bars}</div></div>')
        text = _verdict(same, len(starts) - 1, given)
        cards.append(
            f'<div class="card">{_head(question, given)}{text}<div class="starts">{"".join(drawn)}</div></div>'
        )
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
        f'<text x="{margin}" y="12" {text.replace("middle", "start")} opacity="0.65">0 s</text>',
        f'<text x="{margin + width}" y="12" {text.replace("middle", "end")} opacity="0.65">{duration:.2f} s</text>',
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
    title = f"<h3>What the model saw: the {_term('anchor clip')}, {len(frames)} frames</h3>"
    return _box(f'{title}<div class="wide">{drawing}</div>')


def draw_span(
    film: np.ndarray, first: np.ndarray, last: np.ndarray, start: float, end: float, duration: float, player: str
) -> str:
    r"""
    Draws a video as a strip of film with the span marked on it, and the frames at the span's ends.

    Args:
        film (`np.ndarray` of shape `(frames, height, width, 3)`): Pictures spread evenly over the video.
        first (`np.ndarray` of shape `(height, width, 3)`): The span's first frame.
        last (`np.ndarray` of shape `(height, width, 3)`): The span's last frame.
        start (`float`): Start of the span, in seconds.
        end (`float`): End of the span, in seconds.
        duration (`float`): Length of the video, in seconds.
        player (`str`): HTML of a player, or nothing.

    Returns:
        `str`: HTML.
    """
    left, right = (100 * min(max(seconds / duration, 0), 1) for seconds in (start, end))
    ratio = min(film.shape[2] / film.shape[1], 1.0)  # wide pictures are cut to squares, so that the strip is not thin
    strip = "".join(f'<img src="{picture(frame)}" alt="" style="aspect-ratio: {ratio:.3f}"/>' for frame in film)
    strip += f'<div class="outside" style="left: 0; width: {left:.2f}%"></div>'
    strip += f'<div class="outside" style="left: {right:.2f}%; right: 0"></div>'
    strip += f'<div class="inside" style="left: {left:.2f}%; width: {right - left:.2f}%"></div>'
    ends = "".join(
        f'<figure><img src="{picture(frame)}" alt=""/><figcaption>{word} {seconds:.2f} s</figcaption></figure>'
        for word, frame, seconds in (("from", first, start), ("to", last, end))
    )
    return _box(f'{player}<div class="film">{strip}</div><div class="ends">{ends}</div>')


def draw_inspection(inspection: Inspection, top: int = 5) -> str:
    r"""
    Draws the look inside at one question: clips, affinity, soft label and other starts.

    Args:
        inspection ([`Inspection`]): What is drawn.
        top (`int`, *optional*, defaults to 5): Classes whose soft label is drawn, the greatest ones.

    Returns:
        `str`: HTML.
    """
    head = _head(inspection.question, inspection.anchor_answer)
    knowledge = f"<div>{_affinity(inspection.affinity)}</div><div>{_soft_label(inspection, top)}</div>"
    columns = f'<div class="columns">{knowledge}</div>'
    return f'<div class="card">{head}{_clips(inspection)}{columns}{_starts(inspection)}</div>'


def draw_inspections(inspections: Iterable[Inspection]) -> str:
    """Draws the look inside at several questions, one under the other."""
    return _box("".join(draw_inspection(inspection) for inspection in inspections))


def draw_notice(sentence: str) -> str:
    """Draws a sentence that says what went wrong; nothing for none."""
    return f'<div class="siasamrea notice" role="alert">{escape(sentence)}</div>' if sentence else ""


def _term(name: str) -> str:
    """A word of the field with its explanation under the mouse and for readers of the screen."""
    return f'<abbr tabindex="0" title="{escape(TERMS[name])}">{name}</abbr>'


def _head(question: str, answer: str | int) -> str:
    return f'<p class="question">{escape(question)}</p><div class="answer">{escape(str(answer))}</div>'


def _verdict(same: int, starts: int, answer: str) -> str:
    """Says whether other frames change the answer."""
    title = "<h3>Do other frames of the video change the answer?</h3>"
    if not starts:
        return f"{title}<p>Not known: the span is so short that its frames can be picked in one way only.</p>"
    verdict, noun = "No" if same == starts else "Yes", "start gives" if starts == 1 else "starts give"
    return f"{title}<p>{verdict}: {same} of {starts} other {noun} the same answer, {escape(answer)}.</p>"


def _box(content: str) -> str:
    return f'<div class="siasamrea">{content}</div>'


def _bar(name: str, share: float, kind: str = "") -> str:
    fill = f'<div class="fill {kind}" style="width: {100 * min(max(share, 0), 1):.1f}%"></div>'
    return (
        f'<div class="bar"><span>{escape(name)}</span><div class="track">{fill}</div>'
        f'<span class="number">{share:.3f}</span></div>'
    )


def _images(frames: np.ndarray, times: np.ndarray) -> str:
    """Frames that tell their time under the mouse."""
    return "".join(
        f'<img src="{picture(frame)}" alt="" title="{seconds:.2f} s"/>' for frame, seconds in zip(frames, times)
    )


def _answer(inspection: Inspection, scores: np.ndarray) -> str:
    """The answer of a clip and how sure it is; a count with what the model said."""
    answer = escape(str(inspection.answer(scores)))
    if inspection.task == "count":
        return f'<div class="given"><b>{answer}</b> <span class="number">({scores[0]:.2f})</span></div>'
    share = float(scores.max())
    fill = f'<div class="track"><div class="fill" style="width: {100 * share:.1f}%"></div></div>'
    return (
        f'<div class="given"><b>{answer}</b><div class="bar">{fill}<span class="number">{share:.3f}</span></div></div>'
    )


def _clips(inspection: Inspection) -> str:
    rows = []
    for number, (frames, times, scores) in enumerate(zip(inspection.frames, inspection.times, inspection.scores)):
        name = f"{_term('siamese clip')} {number}" if number else _term("anchor clip")
        head = f'<div>{name}<div class="from">from {times[0]:.2f} s</div></div>'
        images = f'<div class="frames">{_images(frames, times)}</div>'
        kind = "clip" if number else "clip anchor"
        rows.append(f'<div class="{kind}">{head}{images}{_answer(inspection, scores)}</div>')
    same = sum(inspection.answer(scores) == inspection.anchor_answer for scores in inspection.scores[1:])
    text = (
        f"Each clip sees the whole span from a slightly different start. {same} of {len(rows) - 1} siamese clips give "
        "the anchor clip's answer."
    )
    return f"<h3>Clips and their answers</h3><p>{text}</p>{''.join(rows)}"


def _affinity(affinity: np.ndarray) -> str:
    clips = len(affinity)
    names = ["anchor", *(str(number) for number in range(1, clips))]
    rows = []
    for row in range(clips):
        cells = []
        for column in range(clips):
            value = float(affinity[row, column])
            if row == column:
                cells.append("<td>–</td>")
                continue
            # A fixed scale, on which the plain average has half of the color: small differences look small.
            share = min(35 * value * (clips - 1), 70)
            colour = f"color-mix(in srgb, var(--strong) {share:.0f}%, transparent)"
            cells.append(f'<td style="background: {colour}">{value:.3f}</td>')
        rows.append(f"<tr><th>{names[row]}</th>{''.join(cells)}</tr>")
    head = "<tr><th></th>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    text = f"How much each clip (row) listens to each other one. {1 / (clips - 1):.3f} everywhere is a plain average."
    table = f'<div class="wide"><table class="affinity">{head}{"".join(rows)}</table></div>'
    return f"<h3>{_term('affinity').replace('>aff', '>Aff')}</h3><p>{text}</p>{table}"


def _soft_label(inspection: Inspection, top: int) -> str:
    anchor, soft_label = inspection.scores[0], inspection.soft_label
    title = f"<h3>The {_term('soft label')} Q beside the anchor clip's prediction</h3>"
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


def _starts(inspection: Inspection) -> str:
    text = _verdict(inspection.agreeing_starts, len(inspection.start_times), str(inspection.anchor_answer))
    rows = "".join(
        f"<div>from {seconds:.2f} s{_answer(inspection, scores)}</div>"
        for seconds, scores in zip(inspection.start_times, inspection.start_scores)
    )
    return f'{text}<div class="starts">{rows}</div>'


__all__ = [
    "STYLE",
    "draw_answers",
    "draw_inspections",
    "draw_notice",
    "draw_other_starts",
    "draw_span",
    "draw_timeline",
    "draw_vocabulary",
]
