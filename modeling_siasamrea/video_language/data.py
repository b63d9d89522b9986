"""Reads clips as frames with their times, and makes batches of them for a video-language model."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..data.batches import VideoQuestionCollator
from ..data.dataset import VideoQuestionDataset
from ..data.questions import VideoQuestion
from ..processors.video_decoding import FrameTimes
from ..processors.video_source import VideoDecodingError, is_source, source_name
from .processing import Clip, VideoLanguageProcessor
from .teacher import spans_of, teacher_clips


def read_clips(
    processor: VideoLanguageProcessor,
    video: Any,
    start: float | None = None,
    end: float | None = None,
    choose: Callable[[FrameTimes], Sequence[np.ndarray]] | None = None,
    **sampling: Any,
) -> list[Clip]:
    r"""
    Samples the clips of a video and decodes them in one pass.

    Args:
        processor ([`VideoLanguageProcessor`]): Samples the frames.
        video: Anything that [`~SiaSamReaVideoProcessor.sample_clips_of`] takes.
        start (`float`, *optional*): Start of the span, in seconds.
        end (`float`, *optional*): End of the span, in seconds.
        choose (`Callable`, *optional*):
            Chooses the clips instead: from the times of all frames to the indices of each clip.
        sampling: Further arguments of [`~SiaSamReaVideoProcessor.sample_clips_of`], such as `training` and `seed`.

    Returns:
        `list`: for each clip, the anchor first, its frames `(frames, 3, height, width)` as uint8, the time of each
        frame in the video and the length of the span, in seconds. Times rise, also if frames are shuffled: each frame
        has the time of its place.

    Raises:
        [`VideoDecodingError`]: If the video cannot be read, or has a shape that the family's video processor refuses.
    """
    clips: list[np.ndarray] = []  # (frames,) each

    def sample(metadata: FrameTimes) -> np.ndarray:
        chosen = processor.video_processor.sample_indices(metadata, **sampling) if choose is None else choose(metadata)
        clips.extend(chosen)
        return np.concatenate(clips)

    frames, metadata = processor.video_processor.decode(video, sample, start, end, **sampling)
    try:
        processor.check_size(frames[:1])
    except Exception as error:  # each family raises its own
        name = source_name(video) if is_source(video) else "in memory"
        height, width = frames.shape[-2:]
        raise VideoDecodingError(name, f"the model takes no frames of {width} x {height} pixels ({error})") from error
    duration = metadata.total_num_frames if metadata.times is None else metadata.duration
    seconds = [np.sort(times_of(metadata, start)[clip]).tolist() for clip in clips]
    lengths = [max(float(duration), of_clip[-1] - (start or 0.0)) for of_clip in seconds]
    return list(zip(frames.split([len(clip) for clip in clips]), seconds, lengths))


def times_of(metadata: FrameTimes, start: float | None) -> np.ndarray:
    """Returns the time of every frame of a span; frames without times count as one per second, as in sampling."""
    return (start or 0.0) + np.arange(metadata.total_num_frames) if metadata.times is None else metadata.times


class VideoClipDataset(VideoQuestionDataset):
    r"""
    Questions about videos, for a video-language model: the items of [`VideoQuestionDataset`] with `clips` as
    [`read_clips`] gives them.

    Args:
        questions (`list[VideoQuestion]`): The rows, see [`load_video_questions`].
        processor ([`VideoLanguageProcessor`]): Samples the clips.
    """

    def __init__(self, questions: list[VideoQuestion], processor: VideoLanguageProcessor):
        super().__init__(questions, processor)
        self.processor = processor

    def _read(self, questions: list[VideoQuestion], sampling: dict[str, Any]) -> dict[str, Any]:
        question, settings = questions[0], self.processor.settings

        def with_teachers(metadata: FrameTimes) -> list[np.ndarray]:
            (anchor,) = self.processor.video_processor.sample_indices(metadata, **sampling | {"num_clips": 1})
            times, number = times_of(metadata, question.start), sampling.get("num_clips", settings.num_clips) - 1
            spans = spans_of(questions) if settings.teacher_span else ()
            generator = np.random.default_rng(sampling["seed"])
            return [anchor, *teacher_clips(anchor, times, number, settings.teacher_frames, spans, generator)]

        choose = with_teachers if sampling["training"] and settings.teacher_frames is not None else None
        span = (question.start, question.end)
        clips = read_clips(self.processor, question.video_source, *span, choose=choose, **sampling)
        return {"clips": clips, "frame_times": clips[0][1]}  # the anchor's


class VideoLanguageDataCollator(VideoQuestionCollator):
    r"""
    Makes a batch of [`VideoClipDataset`]'s items.

    Args:
        processor ([`VideoLanguageProcessor`]): Writes and tokenizes the prompts.
        share (`bool`, *optional*, defaults to `True`):
            Whether in training several questions about a video are a part of their own, in which it is encoded once.

    Returns:
        `dict`: that of [`VideoQuestionCollator`], with `parts`, each of which goes through the model on its own. A
        part of training:

        ```
        questions  the part's rows
        clips      the model's inputs of each clip, anchor first: prompts with the right answers; or what all of them
                   begin with, and `tails`, the tokens that follow
        labels     (rows, positions)  -100 114 101 100 260 -100   the token that each of the last positions predicts
        ```
        A part of evaluation is about one video:

        ```
        questions  the part's rows
        shared     what [`answer_questions`] takes
        ```
    """

    def __init__(self, processor: VideoLanguageProcessor, share: bool = True):
        self.processor = processor
        self.share = share

    def collate(self, items: list[dict]) -> dict[str, Any]:
        """Writes the prompts of parts."""
        if not items[0]["training"]:  # all of a batch are alike
            return {"parts": [self.to_answer(item["questions"], item["clips"][0]) for item in items]}
        groups = self._parts_of_training(items)
        rows = [row for group in groups for item in group for row in item["rows"]]
        return {"rows": torch.tensor(rows), "parts": [self._to_learn(group) for group in groups]}

    def _parts_of_training(self, items: list[dict]) -> list[list[dict]]:
        """Groups the items that share a forward pass: clips of as many frames, or one video with several questions."""
        parts: dict[tuple, list[dict]] = {}
        for place, item in enumerate(items):
            alone = self.share and len(item["rows"]) > 1
            parts.setdefault(("shared", place) if alone else (len(item["clips"][0][0]),), []).append(item)
        return list(parts.values())

    def _to_learn(self, items: list[dict]) -> dict[str, Any]:
        """Makes the inputs of prompts with the right answers, for each clip."""
        questions = [question for item in items for question in item["questions"]]
        texts = [self.processor.question_text(question) for question in questions]
        answers = [self.processor.answer_text(question) for question in questions]
        if self.share and len(items) == 1 and len(questions) > 1:
            clips, labels = [], None
            for clip in items[0]["clips"]:
                shared = self.processor.share(clip, texts, [[answer] for answer in answers])
                tails = [tail for (tail,) in shared["answers"]]
                labels = token_labels(tails, [length for (length,) in shared["lengths"]])
                padded = torch.nn.utils.rnn.pad_sequence(tails, batch_first=True)
                clips.append(shared["inputs"] | {"tails": padded})
        else:
            of_rows = [item["clips"] for item in items for _ in item["rows"]]
            clips = [self.processor(texts, of_clip, answers) for of_clip in zip(*of_rows)]
            lengths = [self.processor.answer_length(*pair) for pair in zip(texts, answers)]
            labels = token_labels(list(clips[0]["input_ids"]), lengths)
        return {"questions": questions, "clips": clips, "labels": labels}

    def to_answer(self, questions: list[VideoQuestion], clip: Clip) -> dict[str, Any]:
        """Makes the inputs for questions about a clip."""
        texts = [self.processor.question_text(question) for question in questions]
        answers = [self.processor.answers_to_score(question) for question in questions]
        writes = [question.task != "multiple_choice" for question in questions]
        return {"questions": questions, "shared": self.processor.share(clip, texts, answers) | {"writes": writes}}


def token_labels(tails: Sequence[torch.Tensor], lengths: Sequence[int]) -> torch.Tensor:
    r"""
    Makes the labels of rows of tokens that are padded at the right.

    Args:
        tails (`Sequence[torch.LongTensor]` of shape `(length,)`): The tokens of each row, which an answer ends.
        lengths (`Sequence[int]`): Number of tokens of each answer.

    Returns:
        `torch.LongTensor` of shape `(rows, positions)`: the token that each of the last positions predicts, from the
        first that predicts any; -100 outside of answers.
    """
    labels = torch.full((len(tails), max(map(len, tails))), -100, device=tails[0].device)  # (rows, positions)
    for row, tail, length in zip(labels, tails, lengths):
        row[len(tail) - length - 1 : len(tail) - 1] = tail[-length:]
    return labels[:, min(len(tail) - length for tail, length in zip(tails, lengths)) - 1 :]
