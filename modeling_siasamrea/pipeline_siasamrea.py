"""`pipeline("video-question-answering")`: answers about a video."""

import shutil
from pathlib import Path
from typing import Any

from transformers import BatchFeature, Pipeline


FIELDS = ("video", "question", "candidates", "start", "end", "task")


class VideoQuestionAnsweringPipeline(Pipeline):
    r"""
    Answers questions about videos with a [`SiaSamReaForVideoQuestionAnswering`].

    A video is decoded and encoded once for all questions about it that are given together.

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
    ```"""

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def _sanitize_parameters(self, top_k: int | None = None, **kwargs) -> tuple[dict, dict, dict]:
        if kwargs:
            raise ValueError(
                f"The video-question-answering pipeline has no argument {', '.join(sorted(kwargs))}; it takes "
                f"{', '.join(FIELDS)}, top_k and batch_size."
            )
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k, the number of answers, must be 1 or more; got {top_k}.")
        return {}, {}, {} if top_k is None else {"top_k": top_k}

    def __call__(
        self,
        inputs: dict[str, Any] | list[dict[str, Any]] | None = None,
        *,
        top_k: int = 5,
        batch_size: int = 1,
        **request: Any,
    ) -> list:
        r"""
        Answers one question, several about one video, or a list of them.

        Args:
            inputs (`dict` or `list[dict]`, *optional*): Requests, each with the keyword arguments below.
            video: A file (`str` or `Path`), an http(s) address, a `(frames, height, width, 3)` array or images.
            question (`str` or `list[str]`): The question, or several about this video.
            candidates (`list[str]`, or one such list a question, *optional*): Answers to choose from.
            start (`float`, *optional*): Start of the span asked about, in seconds.
            end (`float`, *optional*): End of the span asked about, in seconds.
            task (`str`, *optional*):
                `"open_ended"`, `"multiple_choice"` or `"count"`. By default multiple choice when there are candidates,
                otherwise the only other task the model has a head for.
            top_k (`int`, *optional*, defaults to 5): The most answers returned for a question.
            batch_size (`int`, *optional*, defaults to 1): Videos of one pass through the model.

        Returns:
            `list[dict]` for a question, the best answer first: `answer` and `score`, its probability; for a count
            `answer`, rounded and clipped to 1..10, and `value`, what the model said. Several questions, or a list of
            requests, get a list of such lists.

        Raises:
            [`VideoDecodingError`]: If a video cannot be read.
            `ValueError`: If a request lacks a video or question, or asks what the model has no head for.
        """
        if inputs is not None and request:
            raise ValueError(f"Give requests or keyword arguments, not both; got both, with {sorted(request)}.")
        requests = [request] if inputs is None else [inputs] if isinstance(inputs, dict) else list(inputs)
        questions = [self._questions(one) for one in requests]

        # One batch has questions of one task, with the same number of candidates, about up to batch_size videos.
        batches: list[dict[str, Any]] = []
        filling: dict[tuple, dict[str, Any]] = {}
        for position, (one, several) in enumerate(zip(requests, questions)):
            for number, (question, candidates) in enumerate(several):
                task = self._task(one.get("task"), candidates)
                kind = (task, len(candidates or ()))
                span = (_identity(one["video"]), one.get("start"), one.get("end"))
                batch = filling.get(kind)
                if batch is None or (span not in batch["spans"] and len(batch["spans"]) == batch_size):
                    batch = {"task": task, "spans": [], "videos": [], "questions": [], "candidates": [], "index": []}
                    batch["places"] = []
                    filling[kind] = batch
                    batches.append(batch)
                if span not in batch["spans"]:
                    batch["spans"].append(span)
                    batch["videos"].append(one["video"])
                batch["questions"].append(question)
                batch["candidates"].append(candidates)
                batch["index"].append(batch["spans"].index(span))
                batch["places"].append((position, number))

        answers: list[list] = [[None] * len(several) for several in questions]
        for batch, output in zip(batches, super().__call__(batches, top_k=top_k)):
            for (position, number), answer in zip(batch["places"], output):
                answers[position][number] = answer
        results = [
            several if isinstance(one["question"], list) else several[0] for one, several in zip(requests, answers)
        ]
        return results if isinstance(inputs, (list, tuple)) else results[0]

    def _questions(self, request: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
        """A request's questions, each with its candidates."""
        unknown = sorted(set(request) - set(FIELDS))
        missing = [name for name in ("video", "question") if request.get(name) is None]
        if unknown or missing:
            fault = f"has no {' and no '.join(missing)}" if missing else f"has a field {', '.join(unknown)}"
            raise ValueError(f"A request needs a video and a question, and may have {FIELDS[2:]}; this one {fault}.")
        candidates = request.get("candidates")
        if isinstance(request["question"], str):
            return [(request["question"], None if candidates is None else list(candidates))]
        several = list(request["question"])
        if not several:
            raise ValueError("A request needs a question; this one has an empty list.")
        if candidates is None or isinstance(candidates[0], str):
            candidates = [candidates] * len(several)
        if len(candidates) != len(several):
            raise ValueError(f"A request has {len(several)} questions, but candidates for {len(candidates)}.")
        return list(zip(several, candidates))

    def _task(self, task: str | None, candidates: list[str] | None) -> str:
        """The head that answers: the one asked for, or the one that the request leaves open."""
        heads = self.model.config.tasks
        fitting = [head for head in heads if (head == "multiple_choice") == (candidates is not None)]
        if task is not None:
            fitting = [head for head in fitting if head == task]
        if len(fitting) != 1:
            asked = "" if task is None else f" and task={task!r}"
            advice = f"; say which by task, one of {fitting}" if fitting else ""
            raise ValueError(
                f"The model has heads for {heads}, and a question with{'' if candidates else 'out'} candidates{asked} "
                f"fits {len(fitting)} of them{advice}."
            )
        return fitting[0]

    def preprocess(self, batch: dict[str, Any]) -> BatchFeature:
        """Decodes the videos and tokenizes the questions of a batch."""
        starts, ends = zip(*[span[1:] for span in batch["spans"]])
        features = self.processor(
            videos=[str(video) if isinstance(video, Path) else video for video in batch["videos"]],
            text=batch["questions"],
            candidates=batch["candidates"] if batch["task"] == "multiple_choice" else None,
            video_index=batch["index"],
            start=list(starts),
            end=list(ends),
            return_tensors="pt",
        )
        features["pixel_values_videos"] = features["pixel_values_videos"].to(self.model.dtype)
        return BatchFeature(dict(features) | {"task": batch["task"], "candidates": batch["candidates"]})

    def _forward(self, features: BatchFeature) -> dict[str, Any]:
        candidates = features.pop("candidates")
        return {"task": features["task"], "candidates": candidates, "logits": self.model(**features).logits}

    def postprocess(self, outputs: dict[str, Any], top_k: int = 5) -> list[list[dict[str, Any]]]:
        """The best answers of each question."""
        logits = outputs["logits"].float()
        if outputs["task"] == "count":
            return [[{"answer": min(max(round(value), 1), 10), "value": value}] for value in logits[:, 0].tolist()]
        scores, indices = logits.softmax(dim=1).topk(min(top_k, logits.shape[1]), dim=1)
        id2label = self.model.config.id2label
        answers = []
        for candidates, row_scores, row_indices in zip(outputs["candidates"], scores.tolist(), indices.tolist()):
            names = id2label if candidates is None else candidates
            answers.append([{"answer": names[i], "score": score} for i, score in zip(row_indices, row_scores)])
        return answers

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Saves the model and the processor, with the code that loads them where this package is not installed."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)
        shutil.copyfile(__file__, Path(save_directory) / "pipeline_siasamrea.py")


def _identity(video: Any) -> Any:
    """Equal for requests about the same video: a path by its text, frames by their place in memory."""
    return str(video) if isinstance(video, (str, Path)) else id(video)


__all__ = ["VideoQuestionAnsweringPipeline"]
