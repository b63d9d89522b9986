"""`pipeline("video-question-answering")` over video-language models."""

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from ..adapter_siasamrea import adapter_source
from ..configuration_siasamrea import TASKS, round_count
from ..data.questions import VideoQuestion
from ..pipeline_siasamrea import VideoQuestionAnsweringPipeline, one_at_a_time
from ..requests_siasamrea import Batch, Question
from .data import VideoLanguageDataCollator, read_clips
from .generation import answer_questions, normalize_answer, parse_count
from .processing import VideoLanguageProcessor
from .settings import VideoLanguageSettings


class VideoLanguagePipeline(VideoQuestionAnsweringPipeline):
    r"""
    Answers questions about videos with a model of `AutoModelForImageTextToText` that takes videos, fine-tuned or not.
    Requests and answers are those of [`VideoQuestionAnsweringPipeline`], and `pipeline(...)` chooses this one by the
    model.

    Candidates are scored by how likely each is, so only they have several answers. Open-ended answers and counts are
    generated, see [`normalize_answer`] and [`parse_count`]; where the model generates no number, a count has the text
    as its `answer` and no `value`.

    Args:
        model ([`PreTrainedModel`]): The model.
        processor ([`ProcessorMixin`] or [`VideoLanguageProcessor`]):
            The family's own processor. Settings beside the model (`siamese_reasoning.json`), and an adapter's own
            processor, take precedence; a [`VideoLanguageProcessor`] is used as it is.
        kwargs: Arguments of [`VideoQuestionAnsweringPipeline`].

    Raises:
        `ValueError`: If the processor takes no videos.

    Example:

    ```python
    >>> answer = pipeline("video-question-answering", model="Qwen/Qwen3-VL-2B-Instruct")
    >>> answer(video="cat.mp4", question="what is it?", candidates=["a cat", "a dog"])
    [{"answer": "a cat", "score": 0.97}, {"answer": "a dog", "score": 0.03}]
    ```"""

    def __init__(
        self, model: PreTrainedModel, *args, processor: ProcessorMixin | VideoLanguageProcessor | None = None, **kwargs
    ):
        super().__init__(model, *args, processor=processor, **kwargs)
        self._process = os.getpid()
        if isinstance(processor, VideoLanguageProcessor):
            return
        source = model.name_or_path  # none of a model that was made here
        if source and adapter_source(source):
            self.processor = VideoLanguageProcessor.from_pretrained(source)
        else:
            settings = VideoLanguageSettings.from_pretrained(source) if source else VideoLanguageSettings()
            self.processor = VideoLanguageProcessor(processor, settings)
            # `pipeline()` hands the tokenizer the model's precision, with which it could not be saved.
            self.processor.tokenizer.init_kwargs.pop("dtype", None)

    tasks = list(TASKS)  # the model answers all

    def _task(self, task: str | None, candidates: list[str] | None) -> str:
        """Returns the task that is asked for, or the one that the request leaves open."""
        return super()._task(task or ("open_ended" if candidates is None else "multiple_choice"), candidates)

    def preprocess(self, batch: Batch, download_limits: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Decodes the videos and writes the prompts of a batch: for each video all questions about it, of any task."""
        if self._process != os.getpid():  # a fork copies the locks inside of a tokenizer, which a thread may hold
            self.processor, self._process = deepcopy(self.processor), os.getpid()
        collator = VideoLanguageDataCollator(self.processor)
        features = []
        for asked in batch:
            video, start, end = asked[0].video, asked[0].start, asked[0].end
            video = list(video) if isinstance(video, tuple) else video
            clips = read_clips(self.processor, video, start, end, download_limits=download_limits)
            asked = [replace(question, video=None) for question in asked]  # a worker sends no videos back
            questions = [
                VideoQuestion("", one.text, None, one.task, repr(one.text), one.candidates and tuple(one.candidates))
                for one in asked
            ]
            with one_at_a_time():
                features.append(collator.to_answer(questions, clips[0]) | {"asked": asked})
        return features

    def _run(self, features: list[dict[str, Any]]) -> list[tuple[Question, tuple]]:
        return [
            pair
            for part in features
            for pair in zip(part["asked"], answer_questions(self.model, self.processor, part["shared"]))
        ]

    def postprocess(
        self, outputs: list[tuple[Question, tuple]], top_k: int = 5
    ) -> list[tuple[Question, list[dict[str, Any]]]]:
        """Returns the best answers of each question."""
        return [(question, _best(question, answered, top_k)) for question, answered in outputs]

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Saves the model, its processor and the settings; no code, because Transformers alone loads it."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _best(question: Question, answered: tuple, top_k: int) -> list[dict[str, Any]]:
    """Returns the answers to a question, the best first."""
    log_p, text, probability = answered
    if question.task == "multiple_choice":
        best = log_p.softmax(dim=0).topk(min(top_k, len(log_p)))
        pairs = zip(best.indices.tolist(), best.values.tolist())
        return [{"answer": question.candidates[place], "score": score} for place, score in pairs]
    if question.task == "open_ended":
        return [{"answer": normalize_answer(text), "score": probability}]
    value = parse_count(text)
    return [{"answer": normalize_answer(text) if value is None else round_count(value), "value": value}]
