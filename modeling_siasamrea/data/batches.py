"""Batches of one task: the samplers that deal rows to batches, and the collator that pads them."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..processors.video_processing_siasamrea import stack_padded
from .dataset import VideoQuestionDataset, VideoRequest
from .questions import VideoQuestion


class TrainingBatchSampler(Sampler[list[VideoRequest]]):
    r"""
    Deals the questions of an epoch to the batches of one process. A batch has one task, one number of candidates and
    `batch_size` questions, those about a video side by side. At each step all processes have the same kind of
    question, so they train the same head.

    The order depends only on the seed and the epoch. The last batch of a kind is filled up with its first questions,
    so none is left out, except for kinds without a readable video, see [`~VideoQuestionDataset.check_readable`].

    Args:
        dataset ([`VideoQuestionDataset`]): The questions.
        batch_size (`int`): Questions per batch.
        questions_per_video (`int`): The most questions about a video that stay side by side.
        seed (`int`): Seed of the order and of the frames.
        num_clips (`int`): Clips per video.
        num_processes (`int`, *optional*, defaults to 1): Processes of the run.
        process_index (`int`, *optional*, defaults to 0): Which of them this sampler serves.
    """

    def __init__(
        self,
        dataset: VideoQuestionDataset,
        batch_size: int,
        questions_per_video: int,
        seed: int,
        num_clips: int,
        num_processes: int = 1,
        process_index: int = 0,
    ):
        self.dataset = dataset
        self.kinds = [kind for kind in dataset.kinds if kind not in dataset.unreadable_kinds]
        self.batch_size = batch_size
        self.questions_per_step = batch_size * num_processes
        self.questions_per_video = questions_per_video
        self.seed = seed
        self.num_clips = num_clips
        self.process_index = process_index
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch; the Trainer calls it, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Counts the batches of an epoch, which are as many in each process."""
        counts = [sum(map(len, self.dataset.groups_of(kind))) for kind in self.kinds]
        return sum(math.ceil(count / self.questions_per_step) for count in counts)

    def __iter__(self) -> Iterator[list[VideoRequest]]:
        """Yields the batches of this process."""
        rng = np.random.default_rng((self.seed, self.epoch))
        steps = []
        for kind in self.kinds:
            pieces = []
            for group in self.dataset.groups_of(kind):
                pieces += _pieces(rng.permutation(group).tolist(), self.questions_per_video)
            rows = [row for index in rng.permutation(len(pieces)) for row in pieces[index]]
            missing = -len(rows) % self.questions_per_step
            rows += [rows[place % len(rows)] for place in range(missing)]
            steps += _pieces(rows, self.questions_per_step)
        for index in rng.permutation(len(steps)):
            by_video: dict[tuple, list[int]] = {}
            for row in steps[index][self.process_index * self.batch_size :][: self.batch_size]:
                by_video.setdefault(self.dataset.questions[row].video_group, []).append(row)
            yield [
                VideoRequest(tuple(rows), epoch=self.epoch, seed=self.seed, num_clips=self.num_clips)
                for rows in by_video.values()
            ]


def _pieces(rows: list[int], length: int) -> list[list[int]]:
    """Cuts a list into pieces of a length."""
    return [rows[start : start + length] for start in range(0, len(rows), length)]


class EvaluationBatchSampler(Sampler[list[VideoRequest]]):
    r"""
    Deals questions to the batches of an evaluation in one process. A batch has one task, one number of candidates and
    all such questions about a video, so that the video is decoded and encoded once.

    Videos are added to a batch until it has at least `batch_size` questions. Each process has the same number of
    batches, so some batches may be repeated; their answers are the same and count once.

    Args:
        dataset ([`VideoQuestionDataset`]): The questions.
        batch_size (`int`): Questions that fill a batch.
        num_processes (`int`, *optional*, defaults to 1): Processes of the run.
        process_index (`int`, *optional*, defaults to 0): Which of them this sampler serves.
    """

    def __init__(self, dataset: VideoQuestionDataset, batch_size: int, num_processes: int = 1, process_index: int = 0):
        batches = []
        for kind in dataset.kinds:
            batch: list[VideoRequest] = []
            for rows in dataset.groups_of(kind):
                batch.append(VideoRequest(tuple(rows)))
                if sum(len(request.rows) for request in batch) >= batch_size:
                    batches.append(batch)
                    batch = []
            if batch:
                batches.append(batch)
        missing = -len(batches) % num_processes
        batches += [batches[place % len(batches)] for place in range(missing)]
        self.batch_size = batch_size  # accelerate asks for it
        self.batches = batches[process_index::num_processes]

    def __len__(self) -> int:
        """Counts the batches of this process."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[VideoRequest]]:
        """Yields the batches of this process."""
        return iter(self.batches)


class VideoQuestionCollator:
    r"""
    Base of the collators, which make a batch of items of one kind of a [`VideoQuestionDataset`].

    Returns:
        `dict`: `rows` (the row of each question), `unreadable` (pairs of a row and the reason why its video could not
        be read; these rows are in nothing else) and `truncated` (texts that were longer than the limit). If a video
        could be read, also `task`, `frame_times` (by row; not for stored features) and what the model needs.
    """

    def __call__(self, items: list[dict]) -> dict[str, Any]:
        """Collates items."""
        readable = [item for item in items if "error" not in item]
        rows = [row for item in readable for row in item["rows"]]
        unreadable = [(row, item["error"]) for item in items if "error" in item for row in item["rows"]]
        batch = {"rows": torch.tensor(rows, dtype=torch.long), "unreadable": unreadable, "truncated": 0}
        if not readable:
            return batch
        task = readable[0]["questions"][0].task
        frame_times = {row: item.get("frame_times") for item in readable for row in item["rows"]}
        return batch | {"task": task, "frame_times": frame_times} | self.collate(readable)

    def collate(self, items: list[dict]) -> dict[str, Any]:
        """Makes what the model and its loss need of items whose videos could be read."""


class SiaSamReaDataCollator(VideoQuestionCollator):
    r"""
    Tokenizes and pads the items of a [`VideoQuestionDataset`].

    Args:
        processor ([`SiaSamReaProcessor`]): Tokenizes questions and candidates.
        label2id (`dict[str, int]`): The answer vocabulary, `model.config.label2id`.
        max_length (`int`, *optional*): Longest text in tokens; the tokenizer's own limit by default.

    Returns:
        `dict`: that of [`VideoQuestionCollator`], with what the model's forward takes.

        ```
        pixel_values_videos  uint8 (videos, clips, frames, 3, height, width)
        frame_mask           (videos, frames)           1 1 1 1 1 0   a video of 5 frames beside one of 6
        input_ids            (questions, length)        or (questions, candidates, length)
        video_index          (questions,)               0 0 1         two questions about the first video
        labels               (questions,)               17 3 -100     the third answer is outside the vocabulary, or
                                                                      there is none; -100 for every task
        task                 "open_ended"
        ```
    """

    def __init__(self, processor: SiaSamReaProcessor, label2id: dict[str, int], max_length: int | None = None):
        self.processor = processor
        self.label2id = label2id
        self.max_length = max_length

    def check_candidates(self, questions: list[VideoQuestion]) -> None:
        """Raises a `ValueError` if a candidate is too long by itself: no question can be shortened for it."""
        tokenizer = self.processor.tokenizer
        limit = self.max_length or tokenizer.model_max_length
        # A token has at least one byte.
        rows = {text: one for one in questions for text in one.candidates or () if len(text.encode()) > limit - 2}
        for text, row in rows.items():
            length = len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
            if length > limit:
                raise ValueError(
                    f"The row {row.question_id!r} has a candidate of {length} tokens, {text!r:.80}; the limit is "
                    f"{limit}: shorten it, or raise max_text_length."
                )

    def collate(self, items: list[dict]) -> dict[str, Any]:
        """Tokenizes and pads."""
        questions = [question for item in items for question in item["questions"]]
        choices = [list(question.candidates) for question in questions if question.candidates is not None]
        counts = torch.tensor([len(item["rows"]) for item in items])
        truncated_before = self.processor.num_truncated
        asked = {"text": [question.question for question in questions], "candidates": choices or None}
        text = self.processor(**asked, max_length=self.max_length, return_tensors="pt")
        if "frame_features" in items[0]:
            clips = {"frame_features": [item["frame_features"] for item in items]}
        else:
            clips = {"pixel_values_videos": stack_padded([item["pixel_values_videos"] for item in items])}
        return {
            "truncated": self.processor.num_truncated - truncated_before,
            "video_index": torch.arange(len(items)).repeat_interleave(counts),
            "frame_mask": stack_padded([item["frame_mask"] for item in items]),
            "labels": torch.tensor([self._label(question) for question in questions]),
            **clips,
            **text,
        }

    def _label(self, question: VideoQuestion) -> int | float:
        if question.task == "open_ended":
            # The most frequent right answer that the vocabulary has: it is in order of falling count.
            known = [self.label2id[answer] for answer in question.right_answers if answer in self.label2id]
            return min(known, default=-100)
        return -100 if question.answer is None else question.answer
