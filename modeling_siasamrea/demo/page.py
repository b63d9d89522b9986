"""A page in the browser: ask about a video, and see what the model sees. Needs the extra `demo`."""

import logging
import math
import os
import tempfile
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from ..data.folder_files import walk_files
from ..data.questions import VideoQuestion, load_video_questions
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
CTRL_ENTER = """<script>
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) document.querySelector("#ask")?.click();
});
</script>"""
OWN_VIDEOS = """For your own videos, `siasamrea demo Qwen/Qwen3-VL-2B-Instruct` (or another video-language model by its
name) answers any question without training. To train on your own questions: `siasamrea train own_videos`."""
# What a page without examples offers to begin with: the visitor brings the video.
QUESTIONS = [
    VideoQuestion("", "what color is the cat?", None, "open_ended", ""),
    VideoQuestion("", "how many times does the cat jump?", None, "count", ""),
    VideoQuestion("", "what does the cat do?", None, "multiple_choice", "", ("it sleeps", "it jumps")),
]


class VideoFieldError(ValueError):
    """Raised for the video or its span; the page shows the sentence beside them."""


def load_examples(source: str | Path | None) -> dict[str, VideoQuestion]:
    """
    Finds the examples of the page.

    Args:
        source (`str` or `Path`, *optional*): A folder of videos (and subfolders), or a JSONL or CSV file of questions.

    Returns:
        `dict[str, VideoQuestion]`: at most 200, by the name that the list shows; those of a folder have no question.

    Raises:
        `ValueError`: If there is no such folder or file, or it has no video.
    """
    if source is None:
        return {}
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    if source.is_dir():
        rows = [VideoQuestion(path, "", None, "", "") for path in sorted(walk_files(source, VIDEO_SUFFIXES))]
    elif source.is_file():
        rows = load_video_questions(str(source), str(folder), require_answers=False)
    else:
        raise ValueError(f"There is no folder or file of examples {source}.")
    if not rows:
        raise ValueError(f"There is no video in {source}; give a folder of videos or a file of questions.")
    examples = {}
    for row in rows[:MAX_EXAMPLES]:
        file = os.path.relpath(row.video, folder) if os.path.exists(row.video) else row.video
        to = "" if row.end is None else f" to {row.end} s"
        span = "" if row.start is None and row.end is None else f" (from {row.start or 0} s{to})"
        examples[": ".join(part for part in (file, row.question) if part) + span] = row
    return examples


def read_fields(
    video: str | None, questions: str, candidates: str, kind: str | None, start: float, end: float, duration: float
) -> dict[str, Any]:
    """
    Turns the page's fields into a request of the pipeline, which checks the rest.

    Args:
        video (`str`, *optional*): The file.
        questions (`str`): One per line.
        candidates (`str`): One per line, or several in one line with commas between them; they make every question
            multiple choice.
        kind (`str`, *optional*): The task without candidates, where the model has several.
        start (`float`): Start of the span, in seconds.
        end (`float`): End of the span, in seconds.
        duration (`float`): Length of the video, in seconds.

    Raises:
        [`VideoFieldError`]: If there is no video, or the span does not fit it.
        `ValueError`: If there is no question, or too much is asked at a time.
    """
    if not video:
        raise VideoFieldError("There is no video to ask about: upload one or pick one first.")
    if start is None or end is None or not 0 <= start < end or start >= duration:
        raise VideoFieldError(
            f"The span from {start} s to {end} s does not fit: it must start before it ends, within the video's "
            f"{duration:.2f} s."
        )
    lines = [line.strip() for line in questions.splitlines() if line.strip()]
    choices = [line for line in candidates.splitlines() if line.strip()]
    choices = [
        choice.strip() for choice in (choices[0].split(",") if len(choices) == 1 else choices) if choice.strip()
    ]
    if not lines:
        raise ValueError("There is no question: write one, or several, one per line.")
    if len(lines) > MAX_QUESTIONS or len(lines) * len(choices) > MAX_TEXTS:
        raise ValueError(
            f"Ask at most {MAX_QUESTIONS} questions with {MAX_TEXTS} candidates in all at a time; there are "
            f"{len(lines)} questions with {len(choices)} candidates each."
        )
    return {
        "video": video,
        "question": lines,
        "candidates": choices or None,
        "task": "multiple_choice" if choices else kind,
        "start": None if start == 0 else start,
        "end": None if end >= duration else end,
    }


class Demo:
    """
    What the page does, apart from its layout.

    Args:
        answerer ([`VideoQuestionAnsweringPipeline`]): Answers.
        examples (`dict[str, VideoQuestion]`, *optional*): Videos that can be picked, see [`load_examples`].
        review (`Callable`, *optional*): Returns an HTML page about the answers of an evaluation, which gets a tab.
    """

    def __init__(
        self,
        answerer: VideoQuestionAnsweringPipeline,
        examples: dict[str, VideoQuestion] | None = None,
        review: Callable[[], str] | None = None,
    ):
        self.answerer, self.examples, self.review = answerer, examples or {}, review
        self.is_language_model = isinstance(answerer, VideoLanguagePipeline)
        # How the model answers without candidates.
        words = "in its own words" if self.is_language_model else "with one of the answers it knows"
        words = {"open_ended": words, "count": "with a number"}
        self.kinds = {task: words[task] for task in answerer.tasks if task in words}
        # What a visitor begins with: three examples, or three questions that the model can answer.
        questions = {one.question: one for one in QUESTIONS if one.task in answerer.tasks}
        self.starters = dict(list(self.examples.items())[:3]) or questions

    @property
    def vocabulary(self) -> list[str]:
        """Returns all answers that the model can give to a question without candidates, if they are a list."""
        if self.is_language_model or "open_ended" not in self.answerer.tasks:
            return []
        return list(self.answerer.model.config.id2label.values())

    def span(self, video: str, film: np.ndarray, start: float, end: float, duration: float) -> str:
        """Marks the span on the film."""
        ends, _ = video_film(video, 2, None if start <= 0 else start, None if end >= duration else end)
        return draw_span(film, ends, start, end, duration)

    def answer(self, request: dict[str, Any], duration: float) -> tuple[str, str, str]:
        """Returns the answers, the anchor's frames on a timeline, and a sentence if a text was too long."""
        processor, questions = self.answerer.processor, request["question"]
        cut = processor.num_truncated
        answers = self.answerer(request)
        start, end = request["start"], request["end"]
        frames, times = anchor_clip(processor.video_processor, request["video"], start, end)
        warning = "A text is longer than the model reads: the answer is to the part before the limit."
        unknown = [[] if self.is_language_model else processor.unknown_words(text) for text in questions]
        return (
            draw_answers(questions, answers, unknown),
            draw_timeline(frames, times, start or 0.0, duration if end is None else end, duration),
            warning if processor.num_truncated > cut else "",
        )

    def look_inside(self, request: dict[str, Any]) -> str:
        """Returns the answers from other frames; of SiaSamRea's own network also affinity and soft label."""
        asked = {name: value for name, value in request.items() if name != "question"}
        asked["questions"] = request["question"]
        if self.is_language_model:
            return draw_other_starts(asked["questions"], *answers_from_other_starts(self.answerer, **asked))
        return draw_inspections(inspect_video(self.answerer.model, self.answerer.processor, **asked))


def sentence(error: Exception) -> str:
    """Returns the page's sentence about an error, which never says where on the server it was."""
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
            # Of a session: the video shown, its film and length, and the request answered last.
            self.video, self.film, self.duration = gr.State(), gr.State(), gr.State(0.0)
            self.request = gr.State()
            gr.Markdown(
                f"# Ask about a video\n*{escape(title)}* answers from a few frames of it. See which, and whether "
                "others change the answer."
            )
            if demo.review is None:
                self._lay_out()
            else:
                with gr.Tab("Ask"):
                    self._lay_out()
                with gr.Tab("Review an evaluation", elem_id="review") as tab:
                    shown = gr.HTML(min_height=60)
                    tab.select(self._review, None, shown, api_visibility="private")
            self._connect()

    def _lay_out(self) -> None:
        with gr.Row():
            with gr.Column(scale=5):
                self._lay_out_video()
            with gr.Column(scale=6):
                self._lay_out_questions()
        self.timeline = gr.HTML(elem_id="timeline")
        with gr.Accordion("Look inside the answer", open=False, visible=False, elem_id="look") as self.look:
            self.inside = gr.HTML(elem_id="inside", min_height=60)

    def _lay_out_video(self) -> None:
        examples = self.demo.examples
        with gr.Column(elem_id="empty") as self.empty:
            gr.Markdown("Begin with one of these:" if examples else "Upload a video, and ask for instance:")
            self.starters = [gr.Button(name, size="sm") for name in self.demo.starters]
            if not self.demo.is_language_model:
                gr.Markdown(OWN_VIDEOS)
        self.pick = gr.Dropdown(
            list(examples), value=None, label="Pick an example", visible=bool(examples), elem_id="pick"
        )
        self.file = gr.File(
            label=f"{'or upload' if examples else 'Upload'} a video (up to {MAX_UPLOAD.removesuffix('mb')} MB)",
            file_types=list(VIDEO_SUFFIXES),
            height=150,
            elem_id="upload",
        )
        self.player = gr.HTML()
        self.span = gr.HTML(elem_id="span")
        with gr.Row(visible=False) as self.sliders:
            self.start = gr.Slider(0, 1, 0, step=0.1, label="From (s)", elem_id="start", min_width=120)
            self.end = gr.Slider(0, 1, 1, step=0.1, label="To (s)", elem_id="end", min_width=120)
        self.video_notice = gr.HTML(elem_id="video-notice")

    def _lay_out_questions(self) -> None:
        text = partial(gr.Textbox, max_lines=8, max_length=MAX_LETTERS)
        self.questions = text(label="Questions, one per line (Ctrl+Enter asks)", lines=2, elem_id="questions")
        self.candidates = text(
            label="Answers to choose from, if any: one per line, or with commas between", elem_id="candidates"
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
            gr.Textbox(", ".join(self.demo.vocabulary), label=title, lines=1, max_lines=4, elem_id="vocabulary")

    def _connect(self) -> None:
        """Connects the events. There is one model, so they wait for each other, and the last of several counts."""
        one = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        one["trigger_mode"] = "always_last"  # by default Gradio drops an event while another runs
        answered = [self.video_notice, self.notice, self.answers, self.timeline, self.look, self.inside, self.request]
        shown = [self.video, self.film, self.duration, self.player, self.span, self.sliders, self.start, self.end]
        shown += [self.empty, *answered]
        asked = [self.questions, self.candidates, self.kind]
        fields = [self.video, *asked, self.start, self.end, self.duration]
        marked = [self.video, self.film, self.start, self.end, self.duration]
        ask = {"fn": self._answer, "inputs": fields, "outputs": answered, "show_progress_on": self.answers, **one}
        show = {"show_progress_on": self.span, **one}
        hidden = {"show_progress": "hidden", "api_visibility": "private"}

        self.file.upload(self._show, self.file, shown, **show)
        self.file.upload(lambda: None, None, self.pick, **hidden)
        self.file.clear(self._empty, None, shown, **show)
        self.pick.input(self._show_example, self.pick, [*shown, self.file, *asked], **show)
        for button, (name, starter) in zip(self.starters, self.demo.starters.items()):
            if starter.video:
                show_it = partial(self._show_example, name)
                button.click(show_it, None, [*shown, self.file, *asked], **show).success(**ask)
            else:
                button.click(partial(self._fill, starter), None, asked, **hidden)
        for slider in (self.start, self.end):
            slider.release(self._mark, marked, [self.span, self.video_notice], show_progress="hidden", **one)
        self.ask.click(**ask)
        self.look.expand(self._look_inside, self.request, self.inside, **one)

    def _unanswered(self) -> dict[Any, Any]:
        """Returns the page without an answer."""
        empty = dict.fromkeys((self.video_notice, self.notice, self.answers, self.timeline, self.inside), "")
        return empty | {self.look: gr.Accordion(open=False, visible=False), self.request: None}

    def _empty(self) -> dict[Any, Any]:
        """Returns the page without a video."""
        nothing = {self.video: None, self.film: None, self.duration: 0.0, self.player: "", self.span: ""}
        nothing |= {self.sliders: gr.Row(visible=False), self.empty: gr.Column(visible=True)}
        return nothing | self._unanswered()

    def _show(self, path: str, start: float | None = None, end: float | None = None) -> dict[Any, Any]:
        """Shows a video that was uploaded or picked."""
        try:
            film, duration = video_film(path)
            start, end = start or 0.0, duration if end is None else min(end, duration)
            span, player = self.demo.span(path, film, start, end, duration), _player(self.file, path, duration)
        except Exception as error:
            return self._empty() | {self.video_notice: draw_notice(sentence(error))}
        # A slider moves in tenths of a second; the last one may reach over the video's end.
        most = max(0.1, math.ceil(duration * 10) / 10)
        video = {self.video: path, self.film: film, self.duration: duration, self.player: player, self.span: span}
        return (
            self._unanswered()
            | video
            | {
                self.sliders: gr.Row(visible=True),
                self.start: gr.Slider(maximum=most, value=start),
                self.end: gr.Slider(maximum=most, value=most if end >= duration else end),
                self.empty: gr.Column(visible=False),
            }
        )

    def _show_example(self, name: str | None) -> dict[Any, Any]:
        """Shows an example, with its question."""
        if name is None:
            return self._empty()
        example = self.demo.examples[name]
        return self._show(example.video, example.start, example.end) | {self.file: None} | self._fill(example)

    def _fill(self, example: VideoQuestion) -> dict[Any, Any]:
        """Writes an example's question into the fields; a video without one leaves them."""
        if not example.question:
            return {self.questions: gr.skip()}
        changes = {self.questions: example.question, self.candidates: "\n".join(example.candidates or ())}
        return changes | ({self.kind: example.task} if example.task in self.demo.kinds else {})

    def _mark(self, path: str, film: np.ndarray, start: float, end: float, duration: float) -> tuple[Any, str]:
        """Marks the span that the sliders say."""
        try:
            read_fields(path, "?", "", None, start, end, duration)
            return self.demo.span(path, film, start, min(end, duration), duration), ""
        except Exception as error:
            return gr.skip(), draw_notice(sentence(error))

    def _answer(self, *fields: Any) -> dict[Any, Any]:
        """Answers, and closes the look inside, which is of the question before."""
        try:
            request = read_fields(*fields)
            answers, timeline, warning = self.demo.answer(request, fields[-1])
        except Exception as error:
            place = self.video_notice if isinstance(error, VideoFieldError | VideoDecodingError) else self.notice
            return self._unanswered() | {place: draw_notice(sentence(error))}
        drawn = {self.notice: draw_notice(warning), self.answers: answers, self.timeline: timeline}
        look = {self.look: gr.Accordion(open=False, visible=True), self.request: request}
        return self._unanswered() | drawn | look

    def _look_inside(self, request: dict[str, Any] | None) -> str:
        """Runs the other clips, once they are asked for."""
        try:
            return "" if request is None else self.demo.look_inside(request)
        except Exception as error:
            return draw_notice(sentence(error))

    def _review(self) -> str:
        """Puts the page about an evaluation into a frame of its own, in which its filter works."""
        try:
            page = escape(self.demo.review())
        except Exception as error:
            return draw_notice(sentence(error))
        return f'<iframe title="Answers of an evaluation" sandbox="allow-scripts" srcdoc="{page}"></iframe>'


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
    source = escape(f"gradio_api/file={quote(copy)}")
    return f'<div class="siasamrea"><video controls muted preload="metadata" src="{source}"></video></div>'


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


__all__ = ["Demo", "Page", "launch_page", "load_examples", "page_theme"]
