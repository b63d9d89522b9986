"""Draws the answers of a predictions file as one HTML page: wrong answers first, with the frames that were seen."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..data.tables import read_jsonl
from ..evaluation.confusion import OTHER, answer_texts, confusion_table
from ..processors.video_decoding import VideoDecodingError
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from .drawing import STYLE, draw_frames, draw_table
from .inspection import anchor_clip, frames_at


Line = dict[str, Any]

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
.review figure {{ margin: 0; }} .review .frames img {{ max-height: 96px; }}
.review .facts {{ display: flex; flex-wrap: wrap; gap: 4px 24px; }}
.review .wrong {{ color: #b91c1c; }} [hidden] {{ display: none; }}
@media (prefers-color-scheme: dark) {{ .review .wrong {{ color: #fca5a5; }} }}
{style}</style></head><body class="siasamrea review"><main><h1>{title}</h1><p>{summary}</p>{confusion}
<form><label>Show <select name="right"><option value="wrong">wrong answers</option>
<option value="">all answers</option></select></label>
<label>Kind <select name="kind"><option value="">all</option>{kinds}</select></label>
<label>Score at least <input name="low" type="number" min="0" max="1" step="0.05" value="0"></label>
<output></output></form>{cards}</main><script>
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


def read_predictions(path: Path) -> list[Line]:
    """
    Reads the lines of a predictions file that an evaluation wrote, see [`prediction_row`].

    Raises:
        `ValueError`: If a line is no prediction.
    """
    lines = list(read_jsonl(path))
    for number, line in enumerate(lines, start=1):
        missing = [name for name in ("video", "question", "task", "prediction") if name not in line]
        if missing:
            raise ValueError(f"{path} is no predictions file: line {number} has no {missing[0]!r}.")
    return lines


def kind(line: Line) -> str:
    """Returns the kind of question: its type if it has one, else its task."""
    return str(line.get("question_type") or line["task"])


def by_error(lines: Sequence[Line]) -> list[Line]:
    """Sorts wrong answers to the top, the surest first; then come rows without a right answer, then right ones."""
    order = {False: 0, None: 1, True: 2}
    return sorted(lines, key=lambda line: (order[line.get("correct")], -line.get("score", 0.0)))


def draw_confusion(lines: Sequence[Line]) -> str:
    """Draws the counts of right answers (rows) against given ones; nothing if no right answer is known."""
    names, counts = confusion_table(lines)
    cells = [
        [
            (str(count or ""), "strong" if right == given != OTHER else "other", 80 * count / max(sum(of_row), 1))
            for given, count in zip(names, of_row)
        ]
        for right, of_row in zip(names, counts)
    ]
    title = "<h2>Which answers are taken for which</h2>"
    return title + draw_table("right \\ given", names, cells) if names else ""


def draw_review(
    predictions: Path, videos: Path, video_processor: SiaSamReaVideoProcessor | None = None, most: int = 200
) -> str:
    r"""
    Draws a predictions file as one HTML page that needs no other file.

    Args:
        predictions (`Path`): The file, see [`read_predictions`].
        videos (`Path`): A folder of the videos, where they do not lie at the paths of the lines.
        video_processor ([`SiaSamReaVideoProcessor`], *optional*):
            Samples the anchor clip of lines that do not say which frames were seen (`frame_times`).
        most (`int`, *optional*, defaults to 200): Number of lines that are drawn, wrong ones first; the counts are of
            all lines.

    Returns:
        `str`: HTML.

    Raises:
        `ValueError`: If a line is no prediction.
    """
    lines = read_predictions(predictions)
    known = [line["correct"] for line in lines if "correct" in line]
    drawn = by_error(lines)[:most]
    summary = f"{sum(known)} of {len(known)} answers are right. {len(drawn)} of {len(lines)} answers are drawn."
    kinds = "".join(f"<option>{escape(name)}</option>" for name in sorted({kind(line) for line in drawn}))
    return PAGE.format(
        title=escape(f"Answers of {predictions}"),
        style=STYLE.read_text(encoding="utf-8"),
        summary=summary,
        confusion=draw_confusion(lines),
        kinds=kinds,
        cards="".join(_card(line, _frames(line, videos, video_processor)) for line in drawn),
    )


def _frames(line: Line, videos: Path, video_processor: SiaSamReaVideoProcessor | None) -> str:
    """Draws the frames that the model saw, or says why there are none."""
    try:
        if "frame_times" in line:
            frames, times = frames_at(_video(line, videos), line["frame_times"])
        elif video_processor is not None:
            frames, times = anchor_clip(video_processor, _video(line, videos), line.get("start"), line.get("end"))
        else:
            return "<p>The frames that were seen are not known: name the model by --model.</p>"
    except VideoDecodingError as error:
        return f"<p>{escape(str(error))}</p>"
    return f'<div class="frames wide">{draw_frames(frames, (f"{seconds:.2f} s" for seconds in times))}</div>'


def _video(line: Line, videos: Path) -> str | Path:
    """
    Returns the video of a line: its path, which is that of the evaluation, or the end of that path in the folder of
    videos; or its address.
    """
    parts = Path(line["video"]).parts
    places = [Path(line["video"]), *(videos.joinpath(*parts[first:]) for first in range(len(parts)))]
    return next((place for place in places if place.is_file()), line["video"])


def _card(line: Line, frames: str) -> str:
    """Draws a line of the file: question, right and given answer, answers from other starts, and frames."""
    correct, (rights, given) = line.get("correct"), answer_texts(line)
    facts = [f'given: <b class="{"wrong" if correct is False else ""}">{escape(given or "nothing")}</b>']
    facts += [f"right: <b>{escape(' or '.join(rights))}</b>"] if rights else []
    facts += [f"score: {line['score']:.3f}"] if "score" in line else []
    starts = line.get("answers", [])
    if len(starts) > 1:
        facts.append(f"the same answer from {starts.count(starts[0])} of {len(starts)} starts")
    marks = f'data-right="{str(bool(correct)).lower()}" data-kind="{escape(kind(line))}"'
    marks += f' data-score="{line.get("score", 1)}"'
    head = f'<p class="question">{escape(line["question"])}</p><p class="from">{escape(str(line["video"]))}</p>'
    spans = "".join(f"<span>{fact}</span>" for fact in facts)
    return f'<div class="card" {marks}>{head}<div class="facts">{spans}</div>{frames}</div>'


__all__ = ["draw_review"]
