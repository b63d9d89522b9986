"""Looks inside an answer: the clips that the model sees, their answers, affinity and soft label."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..configuration_siasamrea import SiaSamReaConfig, round_count
from ..data.questions import VideoQuestion
from ..modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..processors.video_decoding import decode_frames
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from ..siamese_reasoning import SiameseReasoning
from ..video_language.data import VideoLanguageDataCollator, read_clips
from ..video_language.pipeline import VideoLanguagePipeline


if TYPE_CHECKING:
    from peft import PeftModel
    from transformers.video_utils import VideoMetadata

NUM_STARTS = 8
THUMBNAIL_HEIGHT = 96  # pixels


@dataclass(frozen=True)
class Inspection:
    r"""
    Holds the look inside the answer to one question about a video.

    Args:
        question (`str`): The question.
        task (`str`): `"open_ended"`, `"multiple_choice"` or `"count"`.
        classes (`list[str]`): The answers that are scored: the vocabulary or the candidates; none for a count.
        frames (`np.ndarray` of shape `(clips, frames, height, width, 3)`):
            Small pictures of the clips' frames, uint8; clip 0 is the anchor.
        times (`np.ndarray` of shape `(clips, frames)`): When each frame shows, in seconds of the video.
        scores (`np.ndarray` of shape `(clips, classes)`):
            P of equations 3 to 5: each clip's answer probabilities; for a count `(clips, 1)`, each clip's number.
        affinity (`np.ndarray` of shape `(clips, clips)`): Equation 2.
        soft_label (`np.ndarray` of shape `(classes,)`): Q of equations 3 to 5.
        start_times (`np.ndarray` of shape `(starts,)`):
            First frames, in seconds, of anchors that start elsewhere in the range that training draws from.
        start_scores (`np.ndarray` of shape `(starts, classes)`): What those anchors answer, like `scores`.
        count_range (`Sequence[int]`, *optional*): The least and largest count, where the model has them.
    """

    question: str
    task: str
    classes: list[str]
    frames: np.ndarray
    times: np.ndarray
    scores: np.ndarray
    affinity: np.ndarray
    soft_label: np.ndarray
    start_times: np.ndarray
    start_scores: np.ndarray
    count_range: Sequence[int] | None = None

    def answer(self, scores: np.ndarray) -> str | int:
        """Returns the answer of `scores` `(classes,)`: the best class, or the rounded count."""
        if self.task == "count":
            return round_count(float(scores[0]), self.count_range)
        return self.classes[int(scores.argmax())]

    @property
    def anchor_answer(self) -> str | int:
        """Returns the answer of the anchor clip alone (paper: the prediction)."""
        return self.answer(self.scores[0])

    @property
    def agreeing_clips(self) -> int:
        """Counts the siamese clips that give the anchor's answer."""
        return sum(self.answer(scores) == self.anchor_answer for scores in self.scores[1:])

    @property
    def agreeing_starts(self) -> int:
        """Counts the anchors that start elsewhere and give the anchor's answer."""
        return sum(self.answer(scores) == self.anchor_answer for scores in self.start_scores)


@torch.no_grad()
def inspect_video(
    model: "SiaSamReaForVideoQuestionAnswering | PeftModel",
    processor: SiaSamReaProcessor,
    video: str | Path,
    questions: list[str],
    candidates: list[str] | None = None,
    start: float | None = None,
    end: float | None = None,
    task: str | None = None,
    num_starts: int = NUM_STARTS,
) -> list[Inspection]:
    r"""
    Runs a model on the clips of a video as training does, but without randomness: the anchor is evaluation's, the
    siamese clips are spread evenly over the window around it, and the network runs without dropout. The video is
    decoded once, and each clip is encoded once, for all questions.

    Args:
        model ([`SiaSamReaForVideoQuestionAnswering`] or `PeftModel`): The model, or an adapter over it.
        processor ([`SiaSamReaProcessor`]): The checkpoint's.
        video (`str` or `Path`): The video file.
        questions (`list[str]`): The questions.
        candidates (`list[str]`, *optional*): Answers to choose from, for every question.
        start (`float`, *optional*): Start of the span asked about, in seconds.
        end (`float`, *optional*): End of the span asked about, in seconds.
        task (`str`, *optional*): The head that answers; may be left out with one head.
        num_starts (`int`, *optional*, defaults to 8):
            The most anchors that start elsewhere, spread evenly over the valid range; short videos have fewer starts.

    Returns:
        `list[Inspection]`: one for each question.

    Raises:
        [`VideoDecodingError`]: If the video cannot be read.
        `ValueError`: If the model has no head for the task.

    Origin: equations 1 to 5 with the checkpoint's own W1 and W2. Decision: a checkpoint that was trained without the
    siamese loss (alpha 0) has none, and gets uniform ones.
    """
    model.eval()
    reasoning = _reasoning(model)
    clips = reasoning.config.num_clips
    sampler, indices = processor.video_processor, None

    def sample(metadata: "VideoMetadata") -> np.ndarray:
        nonlocal indices
        siamese = sampler.sample_indices(metadata, num_eval_clips=clips)  # (clips, frames)
        offsets = [(k, 1 + num_starts) for k in range(1 + num_starts)]
        anchors = [sampler.sample_indices(metadata, eval_offset=offset, num_eval_clips=1) for offset in offsets]
        others = np.unique(np.concatenate(anchors), axis=0)  # (starts, frames)
        indices = np.concatenate([siamese, others[(others != siamese[0]).any(axis=1)]])
        return np.unique(indices)

    frames, metadata = decode_frames(video, sample, start, end)
    positions, times = np.searchsorted(np.unique(indices), indices), metadata.times[indices]

    text = processor(text=questions, candidates=candidates and [candidates] * len(questions), return_tensors="pt")
    text = text.to(model.device)
    video_index = torch.zeros(len(questions), dtype=torch.long, device=model.device)
    outputs = []
    for clip in positions:  # one at a time: the memory of one clip's pass, whatever their number
        pixels = sampler([frames[clip]], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
        pixels = pixels.to(model.device, model.dtype)  # (1, 1, frames, 3, height, width)
        outputs.append(model(pixel_values_videos=pixels, **text, video_index=video_index, task=task))
    features = torch.cat([output.clip_features.float() for output in outputs], dim=1)  # (questions, clips, dim)
    logits = torch.cat([output.clip_logits.float() for output in outputs], dim=1)  # (questions, clips, classes)
    soft_labels, affinity = reasoning(features[:, :clips], logits[:, :clips])
    task = task or next(iter(model.config.tasks))
    scores = logits if task == "count" else logits.softmax(dim=-1)
    scores, soft_labels, affinity = (tensor.cpu().numpy() for tensor in (scores, soft_labels, affinity))
    thumbnails = _thumbnails(frames).numpy()[positions[:clips]]
    vocabulary = list(model.config.id2label.values()) if task == "open_ended" else []
    return [
        Inspection(
            question=question,
            task=task,
            classes=candidates or vocabulary,
            frames=thumbnails,
            times=times[:clips],
            scores=scores[row, :clips],
            affinity=affinity[row],
            soft_label=soft_labels[row],
            start_times=times[clips:, 0],
            start_scores=scores[row, clips:],
            count_range=model.config.count_range,
        )
        for row, question in enumerate(questions)
    ]


def answers_from_other_starts(
    answerer: VideoLanguagePipeline,
    video: str | Path,
    questions: list[str],
    candidates: list[str] | None = None,
    start: float | None = None,
    end: float | None = None,
    task: str | None = None,
) -> tuple[list[float], list[list[list[dict[str, Any]]]]]:
    r"""
    Answers questions with a video-language model from anchor clips that start elsewhere.

    Args:
        answerer ([`VideoLanguagePipeline`]): The model and its processor.
        video, questions, candidates, start, end, task: As in [`inspect_video`].

    Returns:
        `tuple[list[float], list]`: the first frames in seconds, that of the centred anchor first, and for each of them
        and each question the answers of the pipeline, the best first.

    Raises:
        [`VideoDecodingError`]: If the video cannot be read.
    """
    offsets = [(k, 1 + NUM_STARTS) for k in range(1 + NUM_STARTS)]
    sampler = answerer.processor.video_processor

    def anchors(metadata: "VideoMetadata") -> list[np.ndarray]:
        return [sampler.sample_indices(metadata, eval_offset=k)[0] for k in offsets]

    clips = read_clips(answerer.processor, video, start, end, choose=anchors)
    clips = list({tuple(clip[1]): clip for clip in clips}.values())  # each of other frames
    choices = None if candidates is None else tuple(candidates)
    task = task or ("open_ended" if candidates is None else "multiple_choice")
    asked = [VideoQuestion(str(video), text, None, task, repr(text), choices) for text in questions]
    collator = VideoLanguageDataCollator(answerer.processor)
    answers = []
    for clip in clips:
        features = [collator.to_answer(asked, clip) | {"asked": asked}]
        answers.append([best for _, best in answerer.postprocess(answerer.forward(features))])
    return [clip[1][0] for clip in clips], answers


def anchor_clip(
    video_processor: SiaSamReaVideoProcessor, video: str | Path, start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Reads the frames that an answer about a span of a video is based on: evaluation's anchor clip, as small pictures
    `(frames, height, width, 3)`, and their times in seconds.
    """
    clip = video_processor.sample_clips_of(video, start, end, _thumbnails, training=False, num_eval_clips=1)
    return clip.frames[clip.positions[0]].numpy(), clip.times[0]


def frames_at(video: str | Path, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """
    Reads the frames on screen at given times, in seconds, as small pictures `(frames, height, width, 3)`, and returns
    the times as well.
    """

    def on_screen(metadata: "VideoMetadata") -> np.ndarray:
        # A recorded time may be rounded: half a millisecond tells frames apart at any rate.
        return np.clip(np.searchsorted(metadata.times, np.asarray(times) + 5e-4, side="right") - 1, 0, None)

    pictures, _ = decode_frames(video, on_screen, transform=_thumbnails)
    return pictures.numpy(), np.asarray(times, dtype=float)


def video_film(
    video: str | Path, pictures: int = 12, start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, float]:
    """
    Reads pictures that are spread evenly over a span of a video, from its first frame to its last, as small ones
    `(pictures, height, width, 3)`, and returns the length of the span in seconds as well.
    """

    def spread(metadata: "VideoMetadata") -> np.ndarray:
        return np.linspace(0, metadata.total_num_frames - 1, pictures).round()

    frames, metadata = decode_frames(video, spread, start, end, transform=_thumbnails)
    return frames.numpy(), metadata.duration


def _reasoning(model: "SiaSamReaForVideoQuestionAnswering | PeftModel") -> nn.Module:
    """Returns the checkpoint's reasoning over its clips, with uniform W1 and W2 if it was trained without."""
    if model.config.alpha > 0:
        return model.siamese_reasoning
    config: SiaSamReaConfig = copy(model.config)
    config.num_clips = max(2, config.num_clips)
    config.reasoning_weights = "uniform"
    return SiameseReasoning(config)


def _thumbnails(frames: torch.Tensor) -> torch.Tensor:
    """Turns frames `(frames, 3, height, width)` into small pictures `(frames, height, width, 3)`."""
    height, width = frames.shape[-2:]
    size = (min(height, THUMBNAIL_HEIGHT), max(1, round(width * min(1, THUMBNAIL_HEIGHT / height))))
    small = [nn.functional.interpolate(few.float(), size, mode="area") for few in frames.split(8)]
    return torch.cat(small).round().to(torch.uint8).permute(0, 2, 3, 1)
