"""A page in the browser: ask about a video, and see what the model sees. Needs the extra `demo`."""

import logging
import math
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from ..data.folder_files import walk_files
from ..data.questions import load_video_questions
from ..pipeline_siasamrea import VideoQuestionAnsweringPipeline
from ..preparation.small_copies import prepare_video
from ..processors.video_decoding import VIDEO_SUFFIXES
from ..processors.video_source import VideoDecodingError
from ..video_language.pipeline import VideoLanguagePipeline
from .drawing import (
    STYLE,
    draw_answers,
    draw_inspections,
    draw_notice,
    draw_other_starts,
    draw_span,
    draw_timeline,
    draw_vocabulary,
)
from .inspection import anchor_clip, answers_from_other_starts, inspect_video, video_film


logger = logging.getLogger(__name__)

PAGE_STYLE = Path(__file__).with_name("page.css")
MAX_UPLOAD = "200mb"
MAX_EXAMPLES = 200
MAX_QUESTIONS = 16
MAX_TEXTS = 320  # questions times candidates, each of which takes about a megabyte
MAX_LETTERS = 20_000  # of a field
MAX_COPIED_SECONDS = 300  # of a video that browsers do not play
KEPT_SECONDS = 3600  # uploads older than this are deleted
PLAYED_BY_BROWSERS = (".mp4", ".m4v", ".mov", ".webm")
# How a model answers without candidates.
KINDS = {"open_ended": "with one of the answers it knows", "count": "with a number"}
KINDS_OF_LANGUAGE_MODELS = {"open_ended": "in its own words", "count": "with a number"}
CTRL_ENTER = """<script>
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) document.querySelector("#ask")?.click();
});
</script>"""


@dataclass(frozen=True)
class Example:
    """A video that can be picked, with a question about it where there is one."""

    video: str
    question: str = ""
    candidates: tuple[str, ...] = ()
    task: str | None = None
    start: float | None = None
    end: float | None = None
    file: str = ""  # the video's path within the folder of examples

    @property
    def name(self) -> str:
        """Returns what the list of examples shows."""
        name = ": ".join(part for part in (self.file, self.question) if part)
        to = "" if self.end is None else f" to {self.end} s"
        return name if self.start is None and self.end is None else f"{name} (from {self.start or 0} s{to})"


# What a page without examples offers to begin with: the visitor brings the video.
QUESTIONS = [
    Example("", "what color is the cat?", task="open_ended"),
    Example("", "how many times does the cat jump?", task="count"),
    Example("", "what does the cat do?", ("it sleeps", "it jumps"), task="multiple_choice"),
]


@dataclass(frozen=True)
class Request:
    """The checked content of the page's fields."""

    video: str
    questions: list[str]
    candidates: list[str] | None
    task: str | None
    start: float | None
    end: float | None


class VideoFieldError(ValueError):
    """Raised for the video or its span; the page shows the sentence beside them."""


def load_examples(source: str | Path | None) -> list[Example]:
    """
    Finds what can be picked on the page.

    Args:
        source (`str` or `Path`, *optional*): A folder of videos (and subfolders), or a JSONL or CSV file of questions.

    Returns:
        `list[Example]`: at most 200, in their order; none without a source.

    Raises:
        `ValueError`: If there is no such folder or file, or it has no video.
    """
    if source is None:
        return []
    source = Path(source)
    if source.is_dir():
        examples = [
            Example(path, file=os.path.relpath(path, source)) for path in sorted(walk_files(source, VIDEO_SUFFIXES))
        ]
    elif source.is_file():
        rows = load_video_questions(str(source), str(source.parent), require_answers=False)
        examples = [
            Example(
                row.video,
                row.question,
                tuple(row.candidates or ()),
                row.task,
                row.start,
                row.end,
                os.path.relpath(row.video, source.parent) if os.path.exists(row.video) else row.video,
            )
            for row in rows
        ]
    else:
        raise ValueError(f"There is no folder or file of examples {source}.")
    if not examples:
        raise ValueError(f"There is no video in {source}; give a folder of videos or a file of questions.")
    return examples[:MAX_EXAMPLES]


def read_request(
    video: str | None, questions: str, candidates: str, kind: str | None, start: float, end: float, duration: float
) -> Request:
    """
    Checks the page's fields.

    Args:
        video (`str`, *optional*): The file.
        questions (`str`): One per line.
        candidates (`str`): One per line, or several in one line with commas between them; they make every question
            multiple choice.
        kind (`str`, *optional*): The task without candidates, where the model has several.
        start (`float`): Start of the span, in seconds.
        end (`float`): End of the span, in seconds.
        duration (`float`): Length of the video, in seconds.

    Returns:
        [`Request`]

    Raises:
        [`VideoFieldError`]: If there is no video, or the span does not fit it.
        `ValueError`: If a question or the candidates are missing or wrong.
    """
    if not video:
        raise VideoFieldError("There is no video to ask about: upload one or pick one first.")
    if start is None or end is None or not 0 <= start < end or start >= duration:
        raise VideoFieldError(
            f"The span from {start} s to {end} s does not fit: it must start before it ends, within the video's "
            f"{duration:.2f} s."
        )
    lines = [line.strip() for line in questions.splitlines() if line.strip()]
    if not lines:
        raise ValueError("There is no question: write one, or several, one per line.")
    if len(lines) > MAX_QUESTIONS:
        raise ValueError(f"There are {len(lines)} questions; ask at most {MAX_QUESTIONS} at a time.")
    choices = [line for line in candidates.splitlines() if line.strip()]
    if len(choices) == 1:
        choices = choices[0].split(",")
    choices = [choice.strip() for choice in choices if choice.strip()]
    if len(choices) == 1:
        raise ValueError(f"There is one candidate only, {choices[0]!r}: give two or more, or none.")
    if len(set(choices)) < len(choices):
        raise ValueError("A candidate is there twice: give each once.")
    if len(lines) * len(choices) > MAX_TEXTS:
        raise ValueError(
            f"There are {len(choices)} candidates for {len(lines)} questions; the product must be {MAX_TEXTS} at most."
        )
    return Request(
        video=video,
        questions=lines,
        candidates=choices or None,
        task="multiple_choice" if choices else kind,
        start=None if start == 0 else start,
        end=None if end >= duration else end,
    )


class Demo:
    """
    What the page does, apart from how it is laid out.

    Args:
        answerer ([`VideoQuestionAnsweringPipeline`]): Answers.
        examples (`list[Example]`): Videos that can be picked.
    """

    def __init__(self, answerer: VideoQuestionAnsweringPipeline, examples: list[Example]):
        self.answerer = answerer
        self.examples = examples
        self.is_language_model = isinstance(answerer, VideoLanguagePipeline)
        words = KINDS_OF_LANGUAGE_MODELS if self.is_language_model else KINDS
        self.kinds = {task: words[task] for task in answerer.tasks if task in words}
        # What a visitor begins with: three examples, or three questions that the model can answer.
        self.starters = examples[:3] or [question for question in QUESTIONS if question.task in answerer.tasks]

    @property
    def vocabulary(self) -> list[str]:
        """Returns all answers that the model can give to a question without candidates, where they are a list."""
        if self.is_language_model or "open_ended" not in self.answerer.tasks:
            return []
        return list(self.answerer.model.config.id2label.values())

    def span(self, video: str, film: np.ndarray, start: float, end: float, duration: float, player: str) -> str:
        """Marks the span on the film."""
        whole = (None if start <= 0 else start, None if end >= duration else end)
        (first, last), _ = video_film(video, 2, *whole)
        return draw_span(film, first, last, start, end, duration, player)

    def answer(self, request: Request, duration: float) -> tuple[str, str, str]:
        """Returns the answers, the anchor's frames on a timeline, and a sentence if a text was too long."""
        processor = self.answerer.processor
        cut = processor.num_truncated
        answers = self.answerer(
            video=request.video,
            question=request.questions,
            candidates=request.candidates,
            start=request.start,
            end=request.end,
            task=request.task,
        )
        frames, times = anchor_clip(processor.video_processor, request.video, request.start, request.end)
        span = (request.start or 0.0, duration if request.end is None else request.end)
        warning = "A text is longer than the model reads: the answer is to the part before the limit."
        unknown = [[] if self.is_language_model else processor.unknown_words(text) for text in request.questions]
        return (
            draw_answers(request.questions, answers, unknown),
            draw_timeline(frames, times, *span, duration),
            warning if processor.num_truncated > cut else "",
        )

    def look_inside(self, request: Request) -> str:
        """Returns the answers from other frames; of SiaSamRea's own network also affinity and soft label."""
        span = {"start": request.start, "end": request.end, "task": request.task}
        asked = (request.video, request.questions, request.candidates)
        if self.is_language_model:
            starts, answers = answers_from_other_starts(self.answerer, *asked, **span)
            return draw_other_starts(request.questions, starts, answers)
        return draw_inspections(inspect_video(self.answerer.model, self.answerer.processor, *asked, **span))


def sentence(error: Exception) -> str:
    """Returns what the page says of an error: never where on the server it was."""
    if isinstance(error, VideoDecodingError):
        name = Path(error.video).name
        return f"The video {name} cannot be read: {error.reason.replace(str(error.video), name)}."
    if isinstance(error, ValueError):
        return str(error)
    logger.error("The page could not answer.", exc_info=error)
    return f"Something went wrong on the server ({type(error).__name__}); its log says more."


class Page:
    """
    The page: its parts, and what happens when they are used.

    Args:
        demo ([`Demo`]): What it does.
        title (`str`): Name of the checkpoint.
    """

    def __init__(self, demo: Demo, title: str):
        self.demo = demo
        with gr.Blocks(
            title="SiaSamRea", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
        ) as self.blocks:
            # Of a session: the video shown, its film, length and player, and the request answered last.
            self.video, self.film, self.duration = gr.State(), gr.State(), gr.State(0.0)
            self.player, self.request = gr.State(""), gr.State()
            gr.Markdown(
                f"# Ask about a video\n*{escape(title)}* answers from a few frames of it. See which, and whether "
                "others change the answer."
            )
            with gr.Row():
                with gr.Column(scale=5):
                    self._lay_out_video()
                with gr.Column(scale=6):
                    self._lay_out_questions()
            self.timeline = gr.HTML(elem_id="timeline")
            with gr.Accordion("Look inside the answer", open=False, visible=False, elem_id="look") as self.look:
                self.inside = gr.HTML(elem_id="inside", min_height=60)
            self._connect()

    def _lay_out_video(self) -> None:
        examples = self.demo.examples
        with gr.Column(elem_id="empty") as self.empty:
            gr.Markdown("Begin with one of these:" if examples else "Upload a video, and ask for instance:")
            self.starters = [gr.Button(starter.name, size="sm") for starter in self.demo.starters]
        self.pick = gr.Dropdown(
            [(example.name, number) for number, example in enumerate(examples)],
            value=None,
            label="Pick an example",
            visible=bool(examples),
            elem_id="pick",
        )
        self.file = gr.File(
            label=f"{'or upload' if examples else 'Upload'} a video (up to {MAX_UPLOAD.removesuffix('mb')} MB)",
            file_types=list(VIDEO_SUFFIXES),
            height=150,
            elem_id="upload",
        )
        self.span = gr.HTML(elem_id="span")
        with gr.Row(visible=False) as self.sliders:
            self.start = gr.Slider(0, 1, 0, step=0.1, label="From (s)", elem_id="start", min_width=120)
            self.end = gr.Slider(0, 1, 1, step=0.1, label="To (s)", elem_id="end", min_width=120)
        self.video_notice = gr.HTML(elem_id="video-notice")

    def _lay_out_questions(self) -> None:
        self.questions = gr.Textbox(
            label="Questions, one per line (Ctrl+Enter asks)",
            lines=2,
            max_lines=8,
            max_length=MAX_LETTERS,
            elem_id="questions",
        )
        self.candidates = gr.Textbox(
            label="Answers to choose from, if any: one per line, or with commas between",
            lines=1,
            max_lines=8,
            max_length=MAX_LETTERS,
            elem_id="candidates",
        )
        kinds = self.demo.kinds
        self.kind = gr.Radio(
            [(words, task) for task, words in kinds.items()],
            value=next(iter(kinds), None),
            label="Where there is nothing to choose from, answer",
            visible=len(kinds) > 1,
            elem_id="kind",
        )
        self.ask = gr.Button("Ask", variant="primary", elem_id="ask")
        self.notice = gr.HTML(elem_id="notice")
        self.answers = gr.HTML(elem_id="answers")
        if self.demo.vocabulary:
            title = f"The {len(self.demo.vocabulary)} answers it knows"
            with gr.Accordion(title, open=False, elem_id="vocabulary"):
                gr.HTML(draw_vocabulary(self.demo.vocabulary))

    def _connect(self) -> None:
        """Connects the events. There is one model, so they wait for each other, and the last of several counts."""
        one = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        one["trigger_mode"] = "always_last"  # by default Gradio drops an event while another runs
        shown = [self.video, self.film, self.duration, self.player, self.span, self.sliders, self.start, self.end]
        shown += [self.video_notice, self.notice, self.answers, self.timeline, self.look, self.request, self.empty]
        picked = [*shown, self.file, self.questions, self.candidates, self.kind]
        fields = [self.video, self.questions, self.candidates, self.kind, self.start, self.end, self.duration]
        answered = [self.video_notice, self.notice, self.answers, self.timeline, self.look, self.inside, self.request]
        marked = [self.video, self.film, self.start, self.end, self.duration, self.player]
        ask = {"fn": self._answer, "inputs": fields, "outputs": answered, "show_progress_on": self.answers, **one}
        show = {"show_progress_on": self.span, **one}
        hidden = {"show_progress": "hidden", "api_visibility": "private"}

        self.file.upload(self._show, self.file, shown, **show)
        self.file.upload(lambda: None, None, self.pick, **hidden)
        self.file.clear(self._empty, None, shown, **show)
        self.pick.input(self._show_example, self.pick, picked, **show)
        for number, (button, starter) in enumerate(zip(self.starters, self.demo.starters)):
            if starter.video:
                button.click(partial(self._show_example, number), None, picked, **show).success(**ask)
            else:
                button.click(partial(self._fill, starter), None, picked[-3:], **hidden)
        for slider in (self.start, self.end):
            slider.release(self._mark, marked, [self.span, self.video_notice], show_progress="hidden", **one)
        self.ask.click(**ask)
        self.look.expand(self._look_inside, self.request, self.inside, **one)

    def _empty(self) -> dict[Any, Any]:
        """Returns the page without a video."""
        return {
            self.video: None,
            self.film: None,
            self.duration: 0.0,
            self.span: "",
            self.sliders: gr.Row(visible=False),
            self.video_notice: "",
            self.notice: "",
            self.answers: "",
            self.timeline: "",
            self.look: gr.Accordion(open=False, visible=False),
            self.request: None,
            self.empty: gr.Column(visible=True),
        }

    def _show(self, path: str, start: float | None = None, end: float | None = None) -> dict[Any, Any]:
        """Shows a video that was uploaded or picked."""
        try:
            film, duration = video_film(path)
            start, end = start or 0.0, duration if end is None else min(end, duration)
            player = _player(self.file, path, duration)
            span = self.demo.span(path, film, start, end, duration, player)
        except Exception as error:
            return self._empty() | {self.video_notice: draw_notice(sentence(error))}
        # A slider moves in tenths of a second; the last one may reach over the video's end.
        most = max(0.1, math.ceil(duration * 10) / 10)
        return self._empty() | {
            self.video: path,
            self.film: film,
            self.duration: duration,
            self.player: player,
            self.span: span,
            self.sliders: gr.Row(visible=True),
            self.start: gr.Slider(maximum=most, value=start),
            self.end: gr.Slider(maximum=most, value=most if end >= duration else end),
            self.empty: gr.Column(visible=False),
        }

    def _show_example(self, number: int | None) -> dict[Any, Any]:
        """Shows an example, with its question."""
        if number is None:
            return self._empty()
        example = self.demo.examples[number]
        return self._show(example.video, example.start, example.end) | {self.file: None} | self._fill(example)

    def _fill(self, example: Example) -> dict[Any, Any]:
        """Writes an example's question into the fields; a video without one leaves them."""
        if not example.question:
            return {self.questions: gr.skip()}
        changes = {self.questions: example.question, self.candidates: "\n".join(example.candidates)}
        return changes | ({self.kind: example.task} if example.task in self.demo.kinds else {})

    def _mark(
        self, path: str, film: np.ndarray, start: float, end: float, duration: float, player: str
    ) -> tuple[Any, str]:
        """Marks the span that the sliders say."""
        try:
            read_request(path, "?", "", None, start, end, duration)
            return self.demo.span(path, film, start, min(end, duration), duration, player), ""
        except Exception as error:
            return gr.skip(), draw_notice(sentence(error))

    def _answer(self, *fields: Any) -> dict[Any, Any]:
        """Answers, and closes the look inside, which is of the question before."""
        changes = {self.look: gr.Accordion(open=False, visible=False), self.inside: "", self.request: None}
        changes |= dict.fromkeys((self.video_notice, self.notice, self.answers, self.timeline), "")
        try:
            request = read_request(*fields)
            answers, timeline, warning = self.demo.answer(request, fields[-1])
        except Exception as error:
            place = self.video_notice if isinstance(error, VideoFieldError | VideoDecodingError) else self.notice
            return changes | {place: draw_notice(sentence(error))}
        return changes | {
            self.notice: draw_notice(warning),
            self.answers: answers,
            self.timeline: timeline,
            self.look: gr.Accordion(open=False, visible=True),
            self.request: request,
        }

    def _look_inside(self, request: Request | None) -> str:
        """Runs the other clips, once they are asked for."""
        if request is None:
            return ""
        try:
            return self.demo.look_inside(request)
        except Exception as error:
            return draw_notice(sentence(error))


def _player(file: gr.File, path: str, duration: float) -> str:
    """
    Makes a player; the browser gets a copy among the page's files, nothing else of the video's folder. Where browsers
    do not play its format, the copy is a small mp4.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(path)
        if copy.suffix.lower() not in PLAYED_BY_BROWSERS:
            copy = Path(folder, "copy.mp4")
            if duration > MAX_COPIED_SECONDS or prepare_video(Path(path), copy, short_side=240, group=30, crf=28):
                return ""  # the film is there all the same
        copy = file.move_resource_to_block_cache(str(copy))
    return f'<video controls muted preload="metadata" src="gradio_api/file={escape(quote(copy))}"></video>'


def page_theme() -> gr.themes.Base:
    """Returns the page's colors: each text stands out from what is behind it by 4.5 to 1 or more."""
    theme = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    names = ("button_primary_background_fill", "button_primary_background_fill_hover")
    buttons = {f"{name}{mode}": "*primary_700" for name in names for mode in ("", "_dark")}
    subdued = ("body_text_color_subdued", "block_label_text_color", "block_title_text_color", "block_info_text_color")
    subdued = dict.fromkeys(subdued, "*neutral_600") | {f"{name}_dark": "*neutral_300" for name in subdued}
    return theme.set(
        **buttons,
        **subdued,
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
    )


def launch_page(page: Page, **kwargs: Any) -> Any:
    """
    Serves the page: uploads are limited in size, errors stay on the server, and nothing is asked of the internet.

    Args:
        page ([`Page`]): The page.
        kwargs: Arguments of `gr.Blocks.launch`, over these.

    Returns:
        What `launch` returns.
    """
    settings = {"max_file_size": MAX_UPLOAD, "show_error": False, "ssr_mode": False, "footer_links": []}
    settings["state_session_capacity"] = 256  # each session holds a few pictures
    settings |= {"theme": page_theme(), "css_paths": [STYLE, PAGE_STYLE], "head": CTRL_ENTER}
    return page.blocks.queue(max_size=32).launch(**settings | kwargs)


__all__ = ["Demo", "Example", "Page", "launch_page", "load_examples", "page_theme"]
