"""A page in the browser: ask about a video, and see what the model sees. Needs the extra `demo`."""

import logging
import math
import os
import tempfile
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
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
from .drawing import STYLE, draw
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
# Its texts and buttons stand out from what is behind them by 4.5 to 1; no font is asked of the internet.
THEME = gr.themes.Monochrome(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
# What a page without examples offers to begin with: the visitor brings the video.
QUESTIONS = [
    VideoQuestion("", "what color is the cat?", None, "open_ended", ""),
    VideoQuestion("", "how many times does the cat jump?", None, "count", ""),
    VideoQuestion("", "what does the cat do?", None, "multiple_choice", "", ("it sleeps", "it jumps")),
]


class Shown(NamedTuple):
    """Holds the video that a session shows: its file, a few pictures of it, and its length in seconds."""

    path: str
    film: np.ndarray
    duration: float


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
    shown: Shown | None, questions: str, candidates: str, kind: str | None, start: float, end: float
) -> dict[str, Any]:
    """
    Turns the page's fields into a request of the pipeline, which checks the rest.

    Args:
        shown ([`Shown`], *optional*): The video.
        questions (`str`): One per line.
        candidates (`str`): One per line, or several in one line with commas between them; they make every question
            multiple choice.
        kind (`str`, *optional*): The task without candidates, where the model has several.
        start (`float`): Start of the span, in seconds.
        end (`float`): End of the span, in seconds.

    Raises:
        [`VideoFieldError`]: If there is no video, or the span does not fit it.
        `ValueError`: If there is no question, or too much is asked at a time.
    """
    if shown is None:
        raise VideoFieldError("There is no video to ask about: upload one or pick one first.")
    if start is None or end is None or not 0 <= start < end or start >= shown.duration:
        raise VideoFieldError(f"The span from {start} s to {end} s does not fit a video of {shown.duration:.2f} s.")
    lines = [line.strip() for line in questions.splitlines() if line.strip()]
    choices = candidates.strip()
    choices = [choice.strip() for choice in choices.split("\n" if "\n" in choices else ",") if choice.strip()]
    if not lines:
        raise ValueError("There is no question: write one, or several, one per line.")
    if len(lines) > MAX_QUESTIONS or len(lines) * len(choices) > MAX_TEXTS:
        got = f"questions: {len(lines)}, candidates of each: {len(choices)}"
        raise ValueError(f"Ask at most {MAX_QUESTIONS} questions, with {MAX_TEXTS} candidates in all; got {got}.")
    return {
        "video": shown.path,
        "question": lines,
        "candidates": choices or None,
        "task": "multiple_choice" if choices else kind,
        "start": None if start == 0 else start,
        "end": None if end >= shown.duration else end,
    }


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
    Lays the page out, and says what happens when its parts are used.

    Args:
        answerer ([`VideoQuestionAnsweringPipeline`]): Answers.
        title (`str`): Name of the checkpoint.
        examples (`dict[str, VideoQuestion]`, *optional*): Videos that can be picked, see [`load_examples`].
        review (`Callable`, *optional*): Returns an HTML page about the answers of an evaluation, which gets a tab.
    """

    def __init__(
        self,
        answerer: VideoQuestionAnsweringPipeline,
        title: str,
        examples: dict[str, VideoQuestion] | None = None,
        review: Callable[[], str] | None = None,
    ):
        self.answerer, self.review = answerer, review
        self.is_language_model = isinstance(answerer, VideoLanguagePipeline)
        # How the model answers without candidates.
        words = "in its own words" if self.is_language_model else "with one of the answers it knows"
        words = {"open_ended": words, "count": "with a number"}
        self.kinds = {task: words[task] for task in answerer.tasks if task in words}
        self.examples = examples or {one.question: one for one in QUESTIONS if one.task in answerer.tasks}
        with gr.Blocks(
            title="SiaSamRea", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
        ) as self.blocks:
            self.shown, self.request = gr.State(), gr.State()  # of a session: a `Shown`, the request answered last
            gr.Markdown(
                f"# Ask about a video\n*{escape(title)}* answers from a few frames of it. See which, and whether "
                "others change the answer."
            )
            if review is None:
                self._lay_out()
            else:
                with gr.Tab("Ask"):
                    self._lay_out()
                with gr.Tab("Review an evaluation", elem_id="review") as tab:
                    reviewed = gr.HTML(min_height=60)
                    tab.select(self._review, None, reviewed, api_visibility="private")
            self._connect()

    def launch(self, **kwargs: Any) -> Any:
        """
        Serves the page: uploads are limited in size, errors stay on the server, and nothing is asked of the internet.

        Args:
            kwargs: Arguments of `gr.Blocks.launch`, over these.

        Returns:
            The result of `gr.Blocks.launch`.
        """
        settings = {"max_file_size": MAX_UPLOAD, "show_error": False, "ssr_mode": False, "footer_links": []}
        settings["state_session_capacity"] = 256  # each session holds a few pictures
        settings |= {"theme": THEME, "css_paths": [STYLE, PAGE_STYLE], "head": CTRL_ENTER}
        return self.blocks.queue(max_size=32).launch(**settings | kwargs)

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
        has_videos = any(one.video for one in self.examples.values())
        self.offered = gr.Dataset(
            components=["textbox"],
            samples=[[name] for name in self.examples],
            type="index",
            samples_per_page=5,
            label="Pick an example" if has_videos else "Upload a video, and ask for instance",
            elem_id="examples",
        )
        self.file = gr.File(
            label=f"{'or upload' if has_videos else 'Upload'} a video (up to {MAX_UPLOAD.removesuffix('mb')} MB)",
            file_types=list(VIDEO_SUFFIXES),
            height=150,
            elem_id="upload",
        )
        if not self.is_language_model:
            gr.Markdown(OWN_VIDEOS)
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
        self.kind = gr.Radio(
            [(words, task) for task, words in self.kinds.items()],
            value=next(iter(self.kinds), None),
            label="Where there is nothing to choose from, answer",
            visible=len(self.kinds) > 1,
            elem_id="kind",
        )
        self.ask = gr.Button("Ask", variant="primary", elem_id="ask")
        self.notice = gr.HTML(elem_id="notice")
        self.answers = gr.HTML(elem_id="answers")
        if "open_ended" in self.kinds and not self.is_language_model:
            known = list(self.answerer.model.config.id2label.values())
            title = f"The answers it knows ({len(known)})"
            gr.Textbox(", ".join(known), label=title, lines=1, max_lines=4, elem_id="vocabulary")

    def _connect(self) -> None:
        """Connects the events. There is one model, so they wait for each other, and the last of several counts."""
        one = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        one["trigger_mode"] = "always_last"  # by default Gradio drops an event while another runs
        one["outputs"] = [self.shown, self.request, self.file, self.player, self.span, self.sliders, self.start]
        one["outputs"] += [self.end, self.video_notice, self.questions, self.candidates, self.kind, self.notice]
        one["outputs"] += [self.answers, self.timeline, self.look, self.inside]
        asked = [self.shown, self.questions, self.candidates, self.kind, self.start, self.end]
        show = {"show_progress_on": self.span, **one}
        ask = {"inputs": asked, "show_progress_on": self.answers, **one}

        self.file.upload(self._show, self.file, **show)
        self.file.clear(self._empty, None, **show)
        self.offered.click(self._show_example, self.offered, **show).success(self._answer_example, **ask)
        for slider in (self.start, self.end):
            slider.release(self._mark, [self.shown, self.start, self.end], show_progress="hidden", **one)
        self.ask.click(self._answer, **ask)
        self.look.expand(self._look_inside, self.request, show_progress_on=self.inside, **one)

    def _unanswered(self) -> dict[Any, Any]:
        """Returns the page without an answer."""
        empty = dict.fromkeys((self.video_notice, self.notice, self.answers, self.timeline, self.inside), "")
        return empty | {self.look: gr.Accordion(open=False, visible=False), self.request: None}

    def _empty(self) -> dict[Any, Any]:
        """Returns the page without a video."""
        nothing = {self.shown: None, self.player: "", self.span: "", self.sliders: gr.Row(visible=False)}
        return self._unanswered() | nothing

    def _show(self, path: str, start: float | None = None, end: float | None = None) -> dict[Any, Any]:
        """Shows a video that was uploaded or picked."""
        try:
            shown = Shown(path, *video_film(path))
            start, end = start or 0.0, shown.duration if end is None else min(end, shown.duration)
            # A slider moves in tenths of a second; the last one may reach over the video's end.
            most = max(0.1, math.ceil(shown.duration * 10) / 10)
            return self._unanswered() | {
                self.shown: shown,
                self.player: _player(self.file, path, shown.duration),
                self.span: _draw_span(shown, start, end),
                self.sliders: gr.Row(visible=True),
                self.start: gr.Slider(maximum=most, value=start),
                self.end: gr.Slider(maximum=most, value=most if end >= shown.duration else end),
            }
        except Exception as error:
            return self._empty() | {self.video_notice: draw.notice(sentence(error))}

    def _show_example(self, number: int) -> dict[Any, Any]:
        """Shows an example, with its question; those of a page without videos are questions only."""
        example = list(self.examples.values())[number]
        changes = self._show(example.video, example.start, example.end) | {self.file: None} if example.video else {}
        if example.question:
            changes |= {self.questions: example.question, self.candidates: "\n".join(example.candidates or ())}
        return changes | ({self.kind: example.task} if example.task in self.kinds else {})

    def _answer_example(self, shown: Shown | None, questions: str, *fields: Any) -> dict[Any, Any]:
        """Answers, if the example has both a video and a question."""
        return self._answer(shown, questions, *fields) if shown and questions else {self.notice: ""}

    def _mark(self, shown: Shown | None, start: float, end: float) -> dict[Any, Any]:
        """Marks the span that the sliders say."""
        try:
            read_fields(shown, "?", "", None, start, end)
            return {self.span: _draw_span(shown, start, end), self.video_notice: ""}
        except Exception as error:
            return {self.video_notice: draw.notice(sentence(error))}

    def _answer(self, shown: Shown | None, *fields: Any) -> dict[Any, Any]:
        """Answers, and closes the look inside, which is of the question before."""
        try:
            request = read_fields(shown, *fields)
            questions, (start, end), processor = request["question"], fields[-2:], self.answerer.processor
            cut = processor.num_truncated
            answers = self.answerer(request)
            warning = "A text is longer than the model reads: the answer is to the part before the limit."
            warning = warning if processor.num_truncated > cut else ""
            unknown = [[] if self.is_language_model else processor.unknown_words(text) for text in questions]
            clip = anchor_clip(processor.video_processor, shown.path, request["start"], request["end"])
            return self._unanswered() | {
                self.notice: draw.notice(warning),
                self.answers: draw.answers(questions, answers, unknown),
                self.timeline: draw.timeline(*clip, start, min(end, shown.duration), shown.duration),
                self.look: gr.Accordion(open=False, visible=True),
                self.request: request,
            }
        except Exception as error:
            place = self.video_notice if isinstance(error, VideoFieldError | VideoDecodingError) else self.notice
            return self._unanswered() | {place: draw.notice(sentence(error))}

    def _look_inside(self, request: dict[str, Any]) -> dict[Any, Any]:
        """Draws the answers from other frames; of SiaSamRea's own network also affinity and soft label."""
        try:
            asked = {"questions" if name == "question" else name: value for name, value in request.items()}
            if self.is_language_model:
                drawn = draw.answers_by_start(asked["questions"], *answers_from_other_starts(self.answerer, **asked))
            else:
                drawn = draw.inspections(inspect_video(self.answerer.model, self.answerer.processor, **asked))
            return {self.inside: drawn}
        except Exception as error:
            return {self.inside: draw.notice(sentence(error))}

    def _review(self) -> str:
        """Puts the page about an evaluation into a frame of its own, in which its filter works."""
        try:
            page = escape(self.review())
        except Exception as error:
            return draw.notice(sentence(error))
        return f'<iframe title="Answers of an evaluation" sandbox="allow-scripts" srcdoc="{page}"></iframe>'


def _draw_span(shown: Shown, start: float, end: float) -> str:
    """Marks the span on the film of a video."""
    end = min(end, shown.duration)
    ends, _ = video_film(shown.path, 2, start or None, end if end < shown.duration else None)
    return draw.span(shown.film, ends, start, end, shown.duration)


def _player(file: gr.File, path: str, duration: float) -> str:
    """
    Makes a player; the browser gets a copy among the page's files, nothing else of the video's folder. If browsers do
    not play its format, the copy is a small mp4.
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
