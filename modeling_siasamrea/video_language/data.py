"""Batches for a video-language model: clips as frames with their times, and one processor call a clip."""

from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.video_utils import VideoMetadata

from ..annotations_siasamrea import VideoQuestion
from ..data_siasamrea import VideoQuestionDataset, VideoRequest, frame_seed
from ..processors.video_decoding import VideoDecodingError, decode_frames
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
        video: A file, address, `(frames, height, width, 3)` array or list of images.
        start (`float`, *optional*): Start of the span, in seconds.
        end (`float`, *optional*): End of the span, in seconds.
        sampling: Arguments of [`~SiaSamReaVideoProcessor.sample_frames`]: `training`, `seed`, `num_clips`.

    Returns:
        `list`: for each clip, the anchor first, its frames `(frames, 3, height, width)` as uint8, the time of each
        frame in the video and the video's duration, in seconds.

    Raises:
        [`VideoDecodingError`]: If the video cannot be read.
    """
    indices = np.empty(0)

    def sample(metadata: VideoMetadata) -> np.ndarray:
        nonlocal indices
        indices = sampler.sample_frames(metadata, **sampling)
        return np.unique(indices)

    frames, metadata = decode_frames(video, sample, start, end)
    rate = metadata.fps or 1.0  # frames without a rate count as one a second, as they do in sampling
    first = 0 if start is None else round(start * rate)
    duration = (first + metadata.total_num_frames) / rate
    unique, places = np.unique(indices, return_inverse=True)
    seconds = (first + unique) / rate
    num_clips = sampling.get("num_clips") or (
        sampler.num_clips if sampling.get("training") else sampler.num_eval_clips
    )
    clips = places.reshape(num_clips, -1)
    return [(frames[torch.as_tensor(clip)], seconds[clip].tolist(), duration) for clip in clips]


class VideoClipDataset(VideoQuestionDataset):
    r"""
    Questions about videos, for a video-language model. An item is one video: its clips, and questions about it.

    Args:
        questions (`list[VideoQuestion]`): The rows, see [`load_video_questions`].
        processor ([`VideoLanguageProcessor`]): Its `video_processor` samples the clips.
    """

    def __getitem__(self, request: VideoRequest) -> dict:
        r"""
        Decodes a video.

        Returns:
            `dict`: `rows` and `questions`, with `clips` as [`read_clips`] gives them; or with `error`, the reason why
            the video cannot be read.
        """
        questions = [self.questions[row] for row in request.rows]
        item = {"rows": request.rows, "questions": questions, "training": request.epoch is not None}
        first = self.questions[self.groups[questions[0].video_group][0]]
        sampling = {"num_clips": request.num_clips} if item["training"] else {}
        if item["training"]:
            sampling |= {"training": True, "seed": frame_seed(request.seed, request.epoch, first.question_id)}
        try:
            clips = read_clips(self.video_processor, first.video, first.start, first.end, **sampling)
        except VideoDecodingError as error:
            return item | {"error": str(error)}
        return item | {"clips": clips}


class VideoLanguageDataCollator:
    r"""
    Makes a batch of [`VideoClipDataset`]'s items: one processor call for each clip of videos with as many frames.

    Args:
        processor ([`VideoLanguageProcessor`]): Writes and tokenizes the prompts.

    Returns:
        `dict`: `rows`, `unreadable` (pairs of a row and the reason why its video could not be read), `truncated` (0:
        no text is cut), `task`, and `parts`, each of which goes through the model on its own:

        ```
        questions    the part's rows
        clips        for training, the model's inputs of each clip, anchor first: prompts with the right answers
        answer_ids   (rows, longest answer)  -100 -100 114 101 100 260   aligned at the right
        prompts      for evaluation of open-ended questions and counts: the model's inputs without an answer
        ```
        At evaluation a multiple-choice question is a part of its own, with a row for each candidate.
    """

    def __init__(self, processor: VideoLanguageProcessor):
        self.processor = processor

    def __call__(self, items: list[dict]) -> dict:
        """Collates items of one task."""
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
        make = self._to_learn if items[0]["training"] else self._to_answer
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
            part = self._part(
                questions, texts, clips, [self.processor.answer_text(question) for question in questions]
            )
        return [part | {"prompts": self.processor(texts, [of_video[0] for of_video in clips])}]

    def _part(self, questions, texts: list[str], clips, answers: list[str]) -> dict[str, Any]:
        inputs: list[BatchFeature] = [self.processor(texts, of_clip, answers) for of_clip in zip(*clips)]
        return {
            "questions": questions,
            "clips": inputs,
            "answer_ids": self.processor.answer_ids(inputs[0], texts, answers),
        }


__all__ = ["VideoClipDataset", "VideoLanguageDataCollator", "read_clips"]
