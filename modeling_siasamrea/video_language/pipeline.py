"""`pipeline("video-question-answering")` over video-language models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from ..configuration_siasamrea import TASKS, round_count
from ..data.questions import VideoQuestion
from ..pipeline_siasamrea import VideoQuestionAnsweringPipeline
from ..requests_siasamrea import Place, Questions, RequestBatch
from .data import Clip, VideoLanguageDataCollator, in_precision, read_clips
from .generation import candidate_probabilities, generate_answers, normalize_answer, parse_count
from .loading import is_adapter
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
        if isinstance(processor, VideoLanguageProcessor):
            return
        source = model.name_or_path  # none of a model that was made here
        if source and is_adapter(source):
            self.processor = VideoLanguageProcessor.from_pretrained(source)
        else:
            settings = VideoLanguageSettings.from_pretrained(source) if source else VideoLanguageSettings()
            self.processor = VideoLanguageProcessor(processor, settings)
            # `pipeline()` hands the tokenizer the model's precision, with which it could not be saved.
            self.processor.tokenizer.init_kwargs.pop("dtype", None)

    @property
    def tasks(self) -> list[str]:
        """The kinds of questions that the model answers: all."""
        return list(TASKS)

    def _task(self, task: str | None, candidates: list[str] | None) -> str:
        """The task asked for, or the one that the request leaves open."""
        fitting = [name for name in self.tasks if (name == "multiple_choice") == (candidates is not None)]
        if task is not None and task not in fitting:
            raise ValueError(
                f"a question with{'' if candidates else 'out'} candidates cannot be of the task {task!r}; it is "
                f"{' or '.join(fitting)}"
            )
        return task or fitting[0]

    def preprocess(self, batch: RequestBatch, download_limits: dict[str, Any] | None = None) -> dict[str, Any]:
        """Decodes the videos and writes the prompts of a batch."""
        videos = [list(video) if isinstance(video, tuple) else video for video in batch.videos]
        clips = [
            read_clips(self.processor.video_processor, *span, download_limits=download_limits)
            for span in zip(videos, batch.starts, batch.ends)
        ]
        collate = VideoLanguageDataCollator(self.processor)
        return {
            "questions": batch.questions,
            "batches": [collate(list(_items(questions, clips))) for questions in batch.questions],
        }

    def _forward(self, features: dict[str, Any]) -> list[tuple[Questions, dict[int, Any]]]:
        outputs = []
        for questions, batch in zip(features["questions"], features["batches"]):
            answers = [answer for part in batch["parts"] for answer in self._answer(part)]
            outputs.append((questions, dict(zip(batch["rows"].tolist(), answers))))
        return outputs

    def _answer(self, part: dict[str, Any]) -> list[Any]:
        """Of each question the probabilities of its candidates, or what is generated with its probability."""
        part = in_precision(part, self.model.dtype)
        if "prompts" in part:
            return generate_answers(self.model, self.processor, part["prompts"][0])
        return [candidate_probabilities(self.model, part["clips"][0], part["answer_ids"])]

    def postprocess(
        self, outputs: list[tuple[Questions, dict[int, Any]]], top_k: int = 5
    ) -> list[tuple[Place, list[dict[str, Any]]]]:
        """The best answers of each question, with the place where they belong."""
        return [
            (place, _best(questions.task, questions.candidates[row], answers[row], top_k))
            for questions, answers in outputs
            for row, place in enumerate(questions.places)
        ]

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Saves the model, its processor and the settings; no code, for the model loads with Transformers alone."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _items(questions: Questions, clips: list[list[Clip]]) -> Iterator[dict[str, Any]]:
    """The questions, one by one, as [`VideoClipDataset`] would give them."""
    for row, (text, choices, index) in enumerate(zip(questions.texts, questions.candidates, questions.video_index)):
        candidates = None if choices is None else tuple(choices)
        question = VideoQuestion(f"video {index}", text, None, questions.task, f"{text!r}", candidates)
        yield {"rows": (row,), "questions": [question], "clips": clips[index], "training": False}


def _best(
    task: str, candidates: list[str] | None, answer: torch.Tensor | tuple[str, float], top_k: int
) -> list[dict[str, Any]]:
    """The answers to a question, the best first."""
    if task == "multiple_choice":
        best = answer.topk(min(top_k, len(candidates)))
        pairs = zip(best.indices.tolist(), best.values.tolist())
        return [{"answer": candidates[place], "score": score} for place, score in pairs]
    text, score = answer
    if task == "open_ended":
        return [{"answer": normalize_answer(text), "score": score}]
    value = parse_count(text)
    return [{"answer": normalize_answer(text) if value is None else round_count(value), "value": value}]


__all__ = ["VideoLanguagePipeline"]
