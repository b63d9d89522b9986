"""`pipeline("video-question-answering")`: answers about a video."""

import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import Pipeline, PreTrainedModel

from .configuration_siasamrea import did_you_mean, round_count
from .requests_siasamrea import (
    FIELDS,
    Batch,
    Question,
    answers_in_order,
    each,
    is_chat,
    is_video,
    read_request,
    request_batches,
)


ARGUMENTS = (*FIELDS, "messages", "top_k", "batch_size", "num_workers", "download_limits")
_locks: dict[int, Lock] = {}


def one_at_a_time() -> Lock:
    """
    Returns this process's lock for what threads share, such as a model's training mode. Each process has its own,
    because a fork copies locks that another thread holds and never releases.
    """
    return _locks.setdefault(os.getpid(), Lock())


class VideoQuestionAnsweringPipeline(Pipeline):
    r"""
    Answers questions about videos with a [`SiaSamReaForVideoQuestionAnswering`]. For a model of
    `AutoModelForImageTextToText` it is a [`VideoLanguagePipeline`].

    Questions about one video that are given together share its decoding and encoding.

    Example:

    ```python
    >>> import modeling_siasamrea
    >>> from transformers import pipeline

    >>> answer = pipeline("video-question-answering", model="path/to/checkpoint")
    >>> answer(video="cat.mp4", question="what does the cat do?", top_k=2)
    [{"answer": "sleep", "score": 0.83}, {"answer": "jump", "score": 0.09}]
    >>> answer(video="cat.mp4", question="what is it?", candidates=["a cat", "a dog"], start=2.0, end=7.5)
    [{"answer": "a cat", "score": 0.97}, {"answer": "a dog", "score": 0.03}]
    >>> answer(video="cat.mp4", question="how many times does the cat jump?", task="count")
    [{"answer": 3, "value": 3.21}]
    >>> for best, *_ in answer(requests()):  # a generator's requests are read and answered one by one
    ...     print(best["answer"])
    ```"""

    # Gives the class that answers with other models. The installed package sets it; a checkpoint's own code has none.
    for_other_models: "Callable[[], type[VideoQuestionAnsweringPipeline]] | None" = None

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __new__(cls, model: PreTrainedModel | None = None, *args, **kwargs) -> "VideoQuestionAnsweringPipeline":
        """Returns the pipeline for the model; video-language models have their own, in the installed package."""
        # A pipeline that is copied or unpickled has its class already, and comes without a model.
        if cls is VideoQuestionAnsweringPipeline and model is not None and model.config.model_type != "siasamrea":
            if cls.for_other_models is None:
                raise ValueError(f"Models of type {model.config.model_type!r} need the package `siasamrea`.")
            cls = cls.for_other_models()
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        self.defaults = {name: kwargs.pop(name) for name in FIELDS if name in kwargs and name != "task"}
        super().__init__(*args, **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, download_limits: dict[str, Any] | None = None, **kwargs
    ) -> tuple[dict, dict, dict]:
        did_you_mean("The video-question-answering pipeline", kwargs, ARGUMENTS)
        if top_k is not None:
            _check_whole("top_k, the number of answers,", top_k)
        limits = {} if download_limits is None else {"download_limits": download_limits}
        return limits, {}, {} if top_k is None else {"top_k": top_k}

    def __call__(
        self,
        inputs: Any = None,
        question: str | list[str] | None = None,
        candidates: list[str] | list[list[str]] | None = None,
        *,
        top_k: int | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        download_limits: dict[str, Any] | None = None,
        **request: Any,
    ) -> list | Iterator:
        r"""
        Answers one question, several about one video, or many requests.

        Arguments given here or to `pipeline(...)` are defaults for all requests. `task` must be given here, because
        in `pipeline(...)` it is the pipeline's name.

        Args:
            inputs (*optional*):
                A request or several. A request is a `dict` of the arguments below, or a chat: a list of one message
                with a video and a text (system messages are left out). Several are a list or tuple, or a generator,
                iterator or data set, which is read as answers are needed. With `question` they may be videos.
            question (`str` or `list[str]`): The question, or several about this video.
            candidates (`list[str]`, or one such list per question, *optional*): At least two answers to choose from.
            video:
                A file (`str` or `Path`), an http(s) address, the bytes of a file, a file object, a dictionary with
                `path` and `bytes`, a `(frames, height, width, 3)` array, images, or the paths of the frames.
            start (`float`, *optional*): Start of the span asked about, in seconds.
            end (`float`, *optional*): End of the span asked about, in seconds.
            task (`str`, *optional*):
                `"open_ended"`, `"multiple_choice"` or `"count"`. Default: multiple choice with candidates, else the
                model's only other task.
            top_k (`int`, *optional*, defaults to 5): Most answers per question.
            batch_size (`int`, *optional*, defaults to 1):
                Videos per forward pass, and requests that are read at a time from a generator or data set.
            num_workers (`int`, *optional*, defaults to 0): Processes that decode; at most one for a generator.
            download_limits (`dict`, *optional*): `max_bytes`, `max_seconds`, `public_only`, see [`DownloadLimits`].

        Returns:
            `list[dict]`: The answers to a question, the best first: `answer` and `score`, its probability. A count
            has one: `answer`, a whole number, and `value`, before rounding. Several questions or a list of requests
            get a list of such lists; a generator or data set gets an iterator over them.

        Raises:
            [`VideoDecodingError`]: If a video cannot be read.
            `ValueError`: If a request is invalid, or needs a head that the model does not have.
        """
        did_you_mean("The video-question-answering pipeline", request, ARGUMENTS)
        if batch_size is None:
            batch_size = 1 if self._batch_size is None else self._batch_size
        _check_whole("batch_size, the number of videos,", batch_size)
        parameters = {"batch_size": 1, "num_workers": num_workers, "download_limits": download_limits, "top_k": top_k}
        given = request | {"question": question, "candidates": candidates}
        defaults = self.defaults | {name: value for name, value in given.items() if value is not None}

        single = inputs is None or isinstance(inputs, Mapping) or is_video(inputs) or is_chat(inputs)
        items = [{} if inputs is None else inputs] if single else each(inputs)
        numbered = enumerate(items)
        requests = (read_request(item, self._task, None if single else number, defaults) for number, item in numbered)
        if not single and not isinstance(inputs, (list, tuple)):
            batches = request_batches(requests, batch_size, batch_size)
            return self._answers(batches, parameters)
        batches = list(request_batches(requests, batch_size, None))
        answers = list(self._answers(batches, parameters))
        return answers[0] if single else answers

    def _answers(self, batches: Iterable[Batch], parameters: dict[str, Any]) -> Iterator:
        """Yields answers in the order of the requests; reads nothing before the first is needed."""
        if batches:
            yield from answers_in_order(super().__call__(batches, **parameters))

    @property
    def tasks(self) -> list[str]:
        """Returns the tasks that the model has heads for."""
        return self.model.config.tasks

    def _task(self, task: str | None, candidates: list[str] | None) -> str:
        """Returns the task that is asked for, or else the only one that fits."""
        fitting = [name for name in self.tasks if (name == "multiple_choice") == (candidates is not None)]
        asked = f"a question with{'' if candidates else 'out'} candidates"
        if not fitting:
            raise ValueError(f"the model answers tasks {', '.join(self.tasks)}, not {asked}")
        did_you_mean("the model", [] if task is None else [str(task)], self.tasks)
        if task is None and len(fitting) == 1:
            return fitting[0]
        if task not in fitting:
            raise ValueError(f"{asked} needs a task, {' or '.join(fitting)}; got {task}")
        return task

    def preprocess(self, batch: Batch, download_limits: dict[str, Any] | None = None) -> dict[str, Any]:
        """Decodes the videos and tokenizes the questions of a batch, those of one task and shape together."""
        inputs = self.processor(
            videos=[of_span[0].video for of_span in batch],
            start=[of_span[0].start for of_span in batch],
            end=[of_span[0].end for of_span in batch],
            download_limits=download_limits,
            return_tensors="pt",
        )
        inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(self.model.dtype)
        kinds: dict[tuple[str, int], list[tuple[int, Question]]] = {}
        for index, of_span in enumerate(batch):
            for question in of_span:
                kind = kinds.setdefault((question.task, len(question.candidates or ())), [])
                kind.append((index, replace(question, video=None)))  # a worker sends no videos back
        parts = []
        for (task, _), kind in kinds.items():
            video_index, questions = zip(*kind)
            text = self.processor(
                text=[question.text for question in questions],
                candidates=[question.candidates for question in questions] if task == "multiple_choice" else None,
                video_index=list(video_index),
                return_tensors="pt",
            )
            parts.append((questions, text))
        return {"videos": inputs, "parts": parts}

    def _forward(self, features: Any) -> list:
        """Runs the model in evaluation mode, one thread at a time, because all share its mode."""
        with one_at_a_time():
            training = self.model.training
            self.model.eval()
            try:
                return self._run(features)
            finally:
                self.model.train(training)

    def _run(self, features: dict[str, Any]) -> list[tuple[list[Question], torch.Tensor]]:
        videos, parts = features["videos"], features["parts"]
        return [(questions, self._logits(videos, questions, text)) for questions, text in parts]

    def _logits(self, videos: Mapping[str, torch.Tensor], questions: list[Question], text: Any) -> torch.Tensor:
        """Scores `(questions, classes)`; only the videos that these questions ask about are encoded."""
        used, video_index = text.pop("video_index").unique(return_inverse=True)
        videos = {name: value[used] for name, value in videos.items()}
        return self.model(**videos, **text, video_index=video_index, task=questions[0].task).logits

    def postprocess(
        self, outputs: list[tuple[list[Question], torch.Tensor]], top_k: int = 5
    ) -> list[tuple[Question, list[dict[str, Any]]]]:
        """Returns the best answers of each question."""
        return [
            (question, self._best(question, scores, top_k))
            for questions, logits in outputs
            for question, scores in zip(questions, logits.float())
        ]

    def _best(self, question: Question, logits: torch.Tensor, top_k: int) -> list[dict[str, Any]]:
        """Returns the answers that logits `(classes,)` give, the best first."""
        if question.task == "count":
            value = logits.item()
            return [{"answer": round_count(value, self.model.config.count_range), "value": value}]
        names = self.model.config.id2label if question.candidates is None else question.candidates
        scores, indices = logits.softmax(dim=0).topk(min(top_k, len(logits)))
        return [{"answer": names[i], "score": score} for i, score in zip(indices.tolist(), scores.tolist())]

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Saves the model and the processor, with the code that loads them where this package is not installed."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _check_whole(what: str, value: Any) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{what} must be 1 or more; got {value!r}.")
