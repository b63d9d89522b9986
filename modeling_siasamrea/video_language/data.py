"""Batches for a video-language model: clips as frames with their times, and one processor call a clip."""

from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from ..data.dataset import VideoQuestionDataset
from ..data.questions import VideoQuestion
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from .processing import VideoLanguageProcessor


Clip = tuple[torch.Tensor, list[float], float]


def read_clips(
    sampler: SiaSamReaVideoProcessor, video: Any, start: float | None = None, end: float | None = None, **sampling: Any
) -> list[Clip]:
    r"""
    Samples the clips of a video and decodes them in one pass.

    Args:
        sampler ([`SiaSamReaVideoProcessor`]): Says which frames.
        video: Anything that [`~SiaSamReaVideoProcessor.sample_clips_of`] takes.
        start (`float`, *optional*): Start of the span, in seconds.
        end (`float`, *optional*): End of the span, in seconds.
        sampling: Further arguments of [`~SiaSamReaVideoProcessor.sample_clips_of`], such as `training` and `seed`.

    Returns:
        `list`: for each clip, the anchor first, its frames `(frames, 3, height, width)` as uint8, the time of each
        frame in the video and the end of what was sampled from, in seconds. Times rise: frames that are shown in
        another order on purpose have those of the order in which they are shown.

    Raises:
        [`VideoDecodingError`]: If the video cannot be read.
    """
    sampled = sampler.sample_clips_of(video, start, end, **sampling)
    times, duration = sampled.times, sampled.metadata.duration
    if times is None:  # frames without times count as one a second, as they do in sampling
        times = (start or 0.0) + sampled.indices.astype(float)
        duration = sampled.metadata.total_num_frames
    end_of_span = (start or 0.0) + float(duration)
    return [
        (sampled.frames[clip], seconds, max(end_of_span, seconds[-1]))
        for clip, seconds in zip(sampled.positions, np.sort(times, axis=1).tolist())
    ]


class VideoClipDataset(VideoQuestionDataset):
    r"""
    Questions about videos, for a video-language model: the items of [`VideoQuestionDataset`] with `clips` as
    [`read_clips`] gives them.

    Args:
        questions (`list[VideoQuestion]`): The rows, see [`load_video_questions`].
        processor ([`VideoLanguageProcessor`]): Its `video_processor` samples the clips.
    """

    def _read(self, question: VideoQuestion, sampling: dict[str, Any]) -> dict[str, list[Clip]]:
        clips = read_clips(self.video_processor, question.video_source, question.start, question.end, **sampling)
        return {"clips": clips}


class VideoLanguageDataCollator:
    r"""
    Makes a batch of [`VideoClipDataset`]'s items: one processor call for each clip of videos with as many frames.

    Args:
        processor ([`VideoLanguageProcessor`]): Writes and tokenizes the prompts.

    Returns:
        `dict`: `rows`, `unreadable` (pairs of a row and the reason why its video could not be read), `truncated` (0:
        no text is cut), and where a video could be read `task` and `parts`, each of which goes through the model on
        its own:

        ```
        questions    the part's rows
        clips        for training, the model's inputs of each clip, anchor first: prompts with the right answers
        answer_ids   (rows, longest answer)  -100 -100 114 101 100 260   aligned at the right
        prompts      for evaluation of open-ended questions and counts: the inputs of each pass, without an answer
        ```
        At evaluation a multiple-choice question is a part of its own, with a row for each candidate and, in `clips`,
        the inputs of each pass. A pass is a start of the anchor or its shuffled frames, see [`sample_offsets`].
    """

    def __init__(self, processor: VideoLanguageProcessor):
        self.processor = processor

    def __call__(self, items: list[dict]) -> dict:
        """Collates items of one kind."""
        unreadable = [(row, item["error"]) for item in items if "error" in item for row in item["rows"]]
        by_frames: dict[int, list[tuple[int, VideoQuestion, list[Clip]]]] = {}
        for item in items:
            for row, question in zip(item["rows"], item["questions"]):
                if "error" not in item:
                    by_frames.setdefault(len(item["clips"][0][0]), []).append((row, question, item["clips"]))
        batch = {"rows": torch.tensor([row for same in by_frames.values() for row, *_ in same]), "truncated": 0}
        batch["unreadable"] = unreadable
        if not by_frames:
            return batch
        parts = [tuple(zip(*same)) for same in by_frames.values()]
        batch["task"] = parts[0][1][0].task
        make = self._to_learn if items[0]["training"] else self._to_answer  # all of a batch are alike
        return batch | {"parts": [part for _, questions, clips in parts for part in make(questions, clips)]}

    def _to_learn(self, questions: tuple[VideoQuestion, ...], clips: tuple[list[Clip], ...]) -> list[dict]:
        """Prompts with the right answers, for each clip."""
        texts = [self.processor.question_text(question) for question in questions]
        answers = [self.processor.answer_text(question) for question in questions]
        return [self._part(questions, texts, clips, answers)]

    def _to_answer(self, questions: tuple[VideoQuestion, ...], clips: tuple[list[Clip], ...]) -> list[dict]:
        """Prompts alone for what is generated, prompts with each candidate for what is chosen."""
        texts = [self.processor.question_text(question) for question in questions]
        if questions[0].task == "multiple_choice":
            parts = []
            for question, text, of_video in zip(questions, texts, clips):
                answers = self.processor.candidate_texts(question)
                several = len(answers)
                parts.append(self._part((question,), [text] * several, [of_video] * several, answers))
            return parts
        part = {"questions": questions}
        if all(question.answer is not None for question in questions):
            first = [of_video[:1] for of_video in clips]
            part = self._part(questions, texts, first, list(map(self.processor.answer_text, questions)))
        return [part | {"prompts": [self.processor(texts, of_pass) for of_pass in zip(*clips)]}]

    def _part(self, questions, texts: list[str], clips, answers: list[str]) -> dict[str, Any]:
        inputs: list[BatchFeature] = [self.processor(texts, of_clip, answers) for of_clip in zip(*clips)]
        return {
            "questions": questions,
            "clips": inputs,
            "answer_ids": self.processor.answer_ids(inputs[0], texts, answers),
        }


def in_precision(part: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """A part of a batch, its pixels in the model's precision."""
    for inputs in (*part.get("clips", ()), *part.get("prompts", ())):
        pixels = {name: value.to(dtype) for name, value in inputs.items() if name.startswith("pixel_values")}
        inputs.update(pixels)
    return part


__all__ = ["Clip", "VideoClipDataset", "VideoLanguageDataCollator", "in_precision", "read_clips"]
