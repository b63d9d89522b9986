"""Samples siamese clips with more frames than the anchor, for a teacher of the same network (decision)."""

import math
from collections.abc import Sequence

import numpy as np
from transformers.utils import logging

from ..data.questions import VideoQuestion


logger = logging.get_logger(__name__)

Spans = Sequence[tuple[float, float]]  # start and end of each, in seconds


def teacher_clips(
    anchor: np.ndarray, times: np.ndarray, number: int, frames: int, spans: Spans, generator: np.random.Generator
) -> np.ndarray:
    r"""
    Makes siamese clips of the anchor's frames and further ones, which are evenly spaced over the video or the spans.

    Args:
        anchor (`np.ndarray` of shape `(frames,)`): Indices of the anchor's frames.
        times (`np.ndarray` of shape `(video_frames,)`): The time of every frame, rising, in seconds.
        number (`int`): Clips to make.
        frames (`int`): Frames of each, more than the anchor has.
        spans (`Sequence`): Where the further frames are from; empty for the whole video.
        generator (`np.random.Generator`): Draws where each clip's first further frame is. They are spread evenly.

    Returns:
        `np.ndarray` of shape `(number, frames)`: indices, rising. Where there are too few frames, some repeat.
    """
    further = frames - len(anchor)
    others = np.setdiff1d(_shown_in(spans, times), anchor)
    others = others if len(others) else anchor
    phases = (generator.permutation(number) + generator.random()) / number  # (number,), from 0 up to 1
    places = (np.arange(further) + phases[:, None]) * len(others) / further  # (number, further)
    clips = [np.broadcast_to(anchor, (number, len(anchor))), others[places.astype(int)]]
    return np.sort(np.concatenate(clips, axis=1), axis=1)


def _shown_in(spans: Spans, times: np.ndarray) -> np.ndarray:
    """Returns the indices of the frames that are on screen in any of the spans, or of all frames without spans."""
    if not spans:
        return np.arange(len(times))
    edges = [(np.searchsorted(times, start, "right") - 1, np.searchsorted(times, end)) for start, end in spans]
    return np.unique(np.concatenate([np.arange(max(first, 0), max(after, 1)) for first, after in edges]))


def spans_of(questions: Sequence[VideoQuestion]) -> Spans:
    """Returns all spans of evidence of questions that share clips; none if one of them has no span."""
    if not all(question.evidence for question in questions):
        return ()
    spans = [span for question in questions for span in question.evidence]
    return [(start or 0.0, math.inf if end is None else end) for start, end in spans]


def note_rows_without_span(questions: Sequence[VideoQuestion]) -> None:
    r"""
    Warns of training rows without a span of evidence, whose teacher sees the whole video.

    Raises:
        `ValueError`: If no row has a span.
    """
    without = [question.question_id for question in questions if not question.evidence]
    if len(without) == len(questions):
        raise ValueError("teacher_span needs rows with evidence; no training row has any.")
    if without:
        logger.warning(
            f"teacher_span: the teacher sees the whole video for {len(without)} of {len(questions)} training rows "
            f"without evidence; the first are {', '.join(without[:3])}."
        )
