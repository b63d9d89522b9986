"""A page in the browser: ask about a video, and see what the model sees. Needs the extra `demo`."""

import logging
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from ..data.folder_files import walk_files
from ..data.questions import load_video_questions
from ..pipeline_siasamrea import VideoQuestionAnsweringPipeline
from ..processors.video_decoding import VIDEO_SUFFIXES
from ..processors.video_source import VideoDecodingError
from ..video_language.pipeline import VideoLanguagePipeline
from .drawing import STYLE, draw_answers, draw_inspections, draw_notice, draw_span, draw_timeline
from .inspection import anchor_clip, inspect_video, video_film


logger = logging.getLogger(__name__)

MAX_UPLOAD = "200mb"
MAX_EXAMPLES = 200
MAX_QUESTIONS = 16
KEPT_SECONDS = 3600  # uploads older than this are deleted
PLAYED_BY_BROWSERS = (".mp4", ".m4v", ".mov", ".webm")
KINDS = {"open_ended": "from its vocabulary", "count": "with a number"}


@dataclass(frozen=True)
class Example:
    """A video that can be picked, with a question about it where there is one."""

    video: str
    question: str = ""
    candidates: tuple[str, ...] = ()
    task: str | None = None
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """What the list of examples shows."""
        name = f"{Path(self.video).name}: {self.question}" if self.question else Path(self.video).name
        to = "" if self.end is None else f" to {self.end} s"
        return name if self.start is None and self.end is None else f"{name} (from {self.start or 0} s{to})"


@dataclass(frozen=True)
class Request:
    """What is asked: the checked content of the page's fields."""

    video: str
    questions: list[str]
    candidates: list[str] | None
    task: str | None
    start: float | None
    end: float | None


def load_examples(source: str | Path | None) -> list[Example]:
    """
    What can be picked on the page.

    Args:
        source (`str` or `Path`, *optional*): A folder of videos (and subfolders), or a JSONL or CSV file of questions.

    Returns:
        `list[Example]`: at most 200, in their order; none without a source.

    Raises:
        `ValueError`: If there is no such folder or file, or it has no video.
    """
    if source is None:
        return []
    if Path(source).is_dir():
        examples = [Example(path) for path in sorted(walk_files(source, VIDEO_SUFFIXES))]
    elif Path(source).is_file():
        rows = load_video_questions(str(source), str(Path(source).parent), require_answers=False)
        examples = [
            Example(row.video, row.question, tuple(row.candidates or ()), row.task, row.start, row.end) for row in rows
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
        questions (`str`): One a line.
        candidates (`str`): One a line, or several in one line with commas between them; they make every question
            multiple choice.
        kind (`str`, *optional*): The head that answers without candidates, where the model has several.
        start (`float`): Start of the span, in seconds.
        end (`float`): End of the span, in seconds.
        duration (`float`): Length of the video, in seconds.

    Returns:
        [`Request`]

    Raises:
        `ValueError`: If something is missing or does not fit; the message is for the page.
    """
    if not video:
        raise ValueError("There is no video to ask about: upload one or pick one first.")
    lines = [line.strip() for line in questions.splitlines() if line.strip()]
    if not lines:
        raise ValueError("There is no question: write one, or several, one a line.")
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
    if start is None or end is None or not 0 <= start < end or start >= duration:
        raise ValueError(
            f"The span from {start} s to {end} s does not fit: it must start before it ends, within the video's "
            f"{duration:.2f} s."
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
        self.examples = {example.name: example for example in examples}
        # The heads that a question without candidates leaves open.
        self.kinds = [task for task in answerer.tasks if task in KINDS]

    def span(self, video: str, film: np.ndarray, start: float, end: float, duration: float, player: str) -> str:
        """The span marked on the film."""
        whole = (None if start <= 0 else start, None if end >= duration else end)
        (first, last), _ = video_film(video, 2, *whole)
        return draw_span(film, first, last, start, end, duration, player)

    def answer(self, request: Request, duration: float) -> tuple[str, str, str]:
        """The answers, the anchor's frames on a timeline, and a sentence if the model could not read all of a text."""
        cut = self.answerer.processor.num_truncated
        answers = self.answerer(
            video=request.video,
            question=request.questions,
            candidates=request.candidates,
            start=request.start,
            end=request.end,
            task=request.task,
        )
        frames, times = anchor_clip(self.answerer.processor.video_processor, request.video, request.start, request.end)
        span = (request.start or 0.0, duration if request.end is None else request.end)
        cut = self.answerer.processor.num_truncated - cut
        warning = "A text is longer than the model reads: the answer is to what is left of it." if cut else ""
        return draw_answers(request.questions, answers), draw_timeline(frames, times, *span, duration), warning

    def look_inside(self, request: Request) -> str:
        """The siamese clips, their answers, affinity, soft label and other starts; of SiaSamRea's own network."""
        if isinstance(self.answerer, VideoLanguagePipeline):
            return draw_notice("Siamese clips, affinity and soft label are shown of SiaSamRea's own network only.")
        inspections = inspect_video(
            self.answerer.model,
            self.answerer.processor,
            request.video,
            request.questions,
            request.candidates,
            request.start,
            request.end,
            request.task,
        )
        return draw_inspections(inspections)


def sentence(error: Exception) -> str:
    """What the page says of an error: never where on the server it was."""
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
                f"# See what the model sees\nAsk *{escape(title)}* about a video, then look inside its answer."
            )
            with gr.Row():
                with gr.Column(scale=5):
                    self._lay_out_video()
                with gr.Column(scale=6):
                    self._lay_out_questions()
            self.timeline = gr.HTML(elem_id="timeline")
            with gr.Accordion("Look inside", open=False, visible=False, elem_id="look") as self.look:
                self.inside = gr.HTML(elem_id="inside", min_height=60)
            self._connect()

    def _lay_out_video(self) -> None:
        names = list(self.demo.examples)
        self.pick = gr.Dropdown(names, value=None, label="Pick an example", visible=bool(names), elem_id="pick")
        self.file = gr.File(
            label=f"{'or upload' if names else 'Upload'} a video (up to {MAX_UPLOAD.removesuffix('mb')} MB)",
            file_types=list(VIDEO_SUFFIXES),
            height=150,
            elem_id="upload",
        )
        self.span = gr.HTML(elem_id="span")
        with gr.Row(visible=False) as self.sliders:
            self.start = gr.Slider(0, 1, 0, step=0.1, label="From (s)", elem_id="start", min_width=120)
            self.end = gr.Slider(0, 1, 1, step=0.1, label="To (s)", elem_id="end", min_width=120)

    def _lay_out_questions(self) -> None:
        self.questions = gr.Textbox(label="Questions, one a line", lines=2, max_lines=8, elem_id="questions")
        self.candidates = gr.Textbox(
            label="Candidates, if any: one a line, or with commas between",
            lines=1,
            max_lines=8,
            elem_id="candidates",
        )
        kinds = self.demo.kinds
        self.kind = gr.Radio(
            [(KINDS[task], task) for task in kinds],
            value=kinds[0] if kinds else None,
            label="Without candidates, answer",
            visible=len(kinds) > 1,
            elem_id="kind",
        )
        self.ask = gr.Button("Ask", variant="primary", elem_id="ask")
        self.notice = gr.HTML(elem_id="notice")
        self.answers = gr.HTML(elem_id="answers")

    def _connect(self) -> None:
        """One model: its events wait for each other. What is done while one runs counts after it."""
        one = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        one["trigger_mode"] = "always_last"  # by default Gradio drops it
        shown = [self.video, self.film, self.duration, self.player, self.span, self.sliders, self.start, self.end]
        shown += [self.notice, self.answers, self.timeline, self.look, self.request]
        self.file.upload(self._show, self.file, shown, **one)
        self.file.upload(lambda: None, None, self.pick, show_progress="hidden", api_visibility="private")
        self.file.clear(self._empty, None, shown, **one)
        self.pick.input(
            self._show_example, self.pick, [*shown, self.file, self.questions, self.candidates, self.kind], **one
        )
        marked = [self.video, self.film, self.start, self.end, self.duration, self.player]
        for slider in (self.start, self.end):
            slider.release(self._mark, marked, [self.span, self.notice], show_progress="hidden", **one)
        fields = [self.video, self.questions, self.candidates, self.kind, self.start, self.end, self.duration]
        answered = [self.notice, self.answers, self.timeline, self.look, self.inside, self.request]
        self.ask.click(self._answer, fields, answered, **one)
        self.look.expand(self._look_inside, self.request, self.inside, **one)

    def _empty(self) -> dict[Any, Any]:
        """The page without a video."""
        return {
            self.video: None,
            self.film: None,
            self.duration: 0.0,
            self.span: "",
            self.sliders: gr.Row(visible=False),
            self.notice: "",
            self.answers: "",
            self.timeline: "",
            self.look: gr.Accordion(open=False, visible=False),
            self.request: None,
        }

    def _show(self, path: str, start: float | None = None, end: float | None = None) -> dict[Any, Any]:
        """Shows a video that was uploaded or picked."""
        try:
            film, duration = video_film(path)
            start, end = start or 0.0, duration if end is None else min(end, duration)
            player = _player(self.file, path)
            span = self.demo.span(path, film, start, end, duration, player)
        except Exception as error:
            return self._empty() | {self.notice: draw_notice(sentence(error))}
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
        }

    def _show_example(self, name: str | None) -> dict[Any, Any]:
        """Shows an example, with its question."""
        if name is None:
            return self._empty()
        example = self.demo.examples[name]
        changes = self._show(example.video, example.start, example.end) | {self.file: None}
        if example.question:
            changes |= {self.questions: example.question, self.candidates: "\n".join(example.candidates)}
        if example.task in self.demo.kinds:
            changes |= {self.kind: example.task}
        return changes

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
        closed = {self.look: gr.Accordion(open=False, visible=False), self.inside: ""}
        try:
            request = read_request(*fields)
            answers, timeline, warning = self.demo.answer(request, fields[-1])
        except Exception as error:
            said = draw_notice(sentence(error))
            return closed | {self.notice: said, self.answers: "", self.timeline: "", self.request: None}
        return closed | {
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


def _player(file: gr.File, path: str) -> str:
    """A player of a video that browsers play; they get a copy among the page's files, nothing else of its folder."""
    if Path(path).suffix.lower() not in PLAYED_BY_BROWSERS:
        return ""
    copy = file.move_resource_to_block_cache(path)
    return f'<video controls muted preload="metadata" src="gradio_api/file={escape(quote(copy))}"></video>'


def launch_page(page: Page, **kwargs: Any) -> Any:
    """
    Serves the page: uploads are limited in size, errors stay on the server, and nothing is asked of the internet.

    Args:
        page ([`Page`]): The page.
        kwargs: Arguments of `gr.Blocks.launch`, over these.

    Returns:
        What `launch` returns.
    """
    theme = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    settings = {"max_file_size": MAX_UPLOAD, "show_error": False, "ssr_mode": False, "footer_links": []}
    settings["state_session_capacity"] = 256  # each session holds a few pictures
    return page.blocks.queue(max_size=32).launch(**settings | {"theme": theme, "css_paths": STYLE} | kwargs)


__all__ = ["Demo", "Example", "Page", "launch_page", "load_examples"]
