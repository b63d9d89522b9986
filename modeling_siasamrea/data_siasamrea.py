"""From annotation rows to batches: the data set that decodes videos, the batch samplers, and the collator."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .annotations_siasamrea import VideoQuestion
from .loader_workers_siasamrea import take_in_hand
from .processors.processing_siasamrea import SiaSamReaProcessor
from .processors.video_decoding import VideoDecodingError


class VideoRequest(NamedTuple):
    """
    What a batch sampler asks of the data set: some questions about one video, and how to sample its frames.

    The epoch travels with the request, so worker processes need not be told that a new one began.

    Args:
        rows (`tuple[int, ...]`): The questions' rows; all are of one video group.
        epoch (`int`, *optional*): The epoch, for training; `None` asks for evaluation's clips.
        seed (`int`, *optional*, defaults to 0): The run's seed.
        num_clips (`int`, *optional*): Clips to sample; the video processor's own number by default.
        eval_offsets (`int`, *optional*, defaults to 1): Anchor starts of evaluation's clips, see [`sample_offsets`].
    """

    rows: tuple[int, ...]
    epoch: int | None = None
    seed: int = 0
    num_clips: int | None = None
    eval_offsets: int = 1


class UnreadableVideoError(ValueError):
    """Raised when training has not one video that can be read."""


def frame_seed(seed: int, epoch: int, question_id: str) -> int:
    """The seed of a video's clips: the same on every machine, process and worker."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{question_id}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "little")


class VideoQuestionDataset(Dataset):
    r"""
    Questions about videos. An item is one video group: the frames of one video, with questions of one kind (task and
    number of candidates) about it.

    Args:
        questions (`list[VideoQuestion]`): The rows, see [`load_video_questions`].
        processor ([`SiaSamReaProcessor`]): Its video processor decodes, samples and resizes.
    """

    def __init__(self, questions: list[VideoQuestion], processor: SiaSamReaProcessor):
        if not questions:
            raise ValueError("A VideoQuestionDataset needs at least one question; got none.")
        self.questions = questions
        self.video_processor = processor.video_processor
        groups: dict[tuple, list[int]] = {}
        for row, question in enumerate(questions):
            groups.setdefault(question.video_group, []).append(row)
        self.groups = groups
        # Kinds that training leaves out, see `check_readable`, and the groups that could not be read so far.
        self.unreadable_kinds: set[tuple[str, int]] = set()
        self._unreadable_groups: set[tuple] = set()
        self.frame_features: Any | None = None  # a FrameFeatureReader, where a Trainer keeps features
        self.in_hand: Path | None = None  # where loader workers note the video they turn to

    def __len__(self) -> int:
        """The number of questions."""
        return len(self.questions)

    @property
    def tasks(self) -> list[str]:
        """The tasks of the questions, in order of appearance."""
        return list(dict.fromkeys(question.task for question in self.questions))

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """The kinds of questions that a batch cannot mix, in order of appearance: task and number of candidates."""
        return list(dict.fromkeys(question.kind for question in self.questions))

    def groups_of(self, kind: tuple[str, int]) -> list[list[int]]:
        """The rows of each video group of a kind, in order of appearance."""
        return [rows for (group_kind, *_), rows in self.groups.items() if group_kind == kind]

    def __getitem__(self, request: VideoRequest) -> dict:
        r"""
        Decodes a video.

        Returns:
            `dict`: `rows`, `questions` and `training`, with `pixel_values_videos` `(clips, frames, 3, height, width)`
            (whole pixel values as uint8 where the video processor rounds frames, else normalised floats) and
            `frame_mask` `(frames,)`; or with `error`, the reason why the video cannot be read. Where features are
            kept, `frame_features`, the [`ClipFrames`], stand in for the pixels.
        """
        questions = [self.questions[row] for row in request.rows]
        item = {"rows": request.rows, "questions": questions, "training": request.epoch is not None}
        first = self.questions[self.groups[questions[0].video_group][0]]
        sampling = {
            "training": item["training"],
            "seed": frame_seed(request.seed, request.epoch or 0, first.question_id),
            "eval_offsets": request.eval_offsets,
        }
        if request.num_clips is not None:
            sampling["num_clips"] = request.num_clips
        take_in_hand(self.in_hand, first.video)
        try:
            return item | self._read(first, sampling)
        except VideoDecodingError as error:
            return item | {"error": str(error)}

    def _read(self, question: VideoQuestion, sampling: dict[str, Any]) -> dict[str, Any]:
        """What an item holds of the video that a question is about."""
        if self.frame_features is not None:
            clips = self.frame_features.read(question, sampling)
            frame_mask = torch.ones(clips.positions.shape[1], dtype=torch.long)
            return {"frame_features": clips, "frame_mask": frame_mask}
        as_pixels = {"do_rescale": False, "do_normalize": False} if self.video_processor.round_frames else {}
        video = self.video_processor(
            [question.video_source],
            start=question.start,
            end=question.end,
            return_tensors="pt",
            **sampling,
            **as_pixels,
        )
        return {"pixel_values_videos": video["pixel_values_videos"][0], "frame_mask": video["frame_mask"][0]}

    def __getitems__(self, requests: list[VideoRequest]) -> list[dict]:
        """
        A batch. Where none of its videos can be read, the next readable one is added, so that every process of a
        distributed run has something to compute at every step: in training one of the same kind, in evaluation one of
        another kind if need be. Only an evaluation without one readable video has batches without one.
        """
        items = [self[request] for request in requests]
        if all("error" in item for item in items):
            items += self._substitute(requests, items[0]["error"])
        return items

    def _substitute(self, requests: list[VideoRequest], first_error: str) -> list[dict]:
        failed = self.questions[requests[-1].rows[-1]]
        training = requests[-1].epoch is not None
        groups = self.groups_of(failed.kind)
        position = groups.index(self.groups[failed.video_group])
        groups = groups[position + 1 :] + groups[:position]
        if not training:
            groups += [rows for kind in self.kinds if kind != failed.kind for rows in self.groups_of(kind)]
        number = sum(len(request.rows) for request in requests)
        for rows in groups:
            group = self.questions[rows[0]].video_group
            if group in self._unreadable_groups:
                continue
            item = self[requests[-1]._replace(rows=tuple(rows[:number]))]
            if "error" not in item:
                return [item]
            self._unreadable_groups.add(group)
        if training:
            raise UnreadableVideoError(
                f"None of the {len(groups) + 1} videos of the task {failed.task!r} can be read any more. The first "
                f"failure: {first_error}"
            )
        return []

    def check_readable(self) -> dict[int, str]:
        r"""
        Looks for a readable video of each kind before training, and notes the kinds that have none: the batches of a
        [`TrainingBatchSampler`] made afterwards leave them out. Stops at the first readable video of each kind.

        Returns:
            `dict[int, str]`: the rows that are left out, and why their video cannot be read.

        Raises:
            [`UnreadableVideoError`]: If no video of any kind can be read.
        """
        left_out: dict[int, str] = {}
        for kind in self.kinds:
            errors: dict[int, str] = {}
            for rows in self.groups_of(kind):
                item = self[VideoRequest(tuple(rows))]
                if "error" not in item:
                    break
                errors |= dict.fromkeys(rows, item["error"])
            else:
                self.unreadable_kinds.add(kind)
                left_out |= errors
        if len(left_out) == len(self):
            raise UnreadableVideoError(
                f"None of the {len(self.groups)} videos can be read, so there is nothing to train on. The first "
                f"failure: {left_out[0]}"
            )
        return left_out


class TrainingBatchSampler(Sampler[list[VideoRequest]]):
    r"""
    The batches of an epoch for one process: one task and number of candidates a batch, always `batch_size` questions,
    questions about a video side by side. All processes have the same kind at the same step, so they train the same
    head.

    The order is a function of the seed and the epoch. Questions of a kind that do not fill its last batches are
    completed with questions from the epoch's beginning, so none is left out, but for kinds that
    [`~VideoQuestionDataset.check_readable`] found without a readable video.

    Args:
        dataset ([`VideoQuestionDataset`]): The questions.
        batch_size (`int`): Questions of a batch.
        questions_per_video (`int`): The most questions about a video that stay side by side.
        seed (`int`): Seed of the order, and of the frames.
        num_clips (`int`): Clips of a video.
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
        self.questions_per_video = questions_per_video
        self.seed = seed
        self.num_clips = num_clips
        self.num_processes = num_processes
        self.process_index = process_index
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch; the Trainer calls it, also when it resumes."""
        self.epoch = epoch

    @property
    def questions_per_step(self) -> int:
        """Questions of a batch in all processes together."""
        return self.batch_size * self.num_processes

    def __len__(self) -> int:
        """Batches of an epoch, the same in each process."""
        counts = [sum(map(len, self.dataset.groups_of(kind))) for kind in self.kinds]
        return sum(math.ceil(count / self.questions_per_step) for count in counts)

    def _ordered_rows(self, kind: tuple[str, int], rng: np.random.Generator) -> list[int]:
        """All rows of a kind in an epoch's order, completed to whole steps."""
        pieces = []
        for group in self.dataset.groups_of(kind):
            rows = rng.permutation(group).tolist()
            pieces += [
                rows[start : start + self.questions_per_video]
                for start in range(0, len(rows), self.questions_per_video)
            ]
        rows = [row for index in rng.permutation(len(pieces)) for row in pieces[index]]
        steps = math.ceil(len(rows) / self.questions_per_step)
        repeats = math.ceil(steps * self.questions_per_step / len(rows))
        return (rows * repeats)[: steps * self.questions_per_step]

    def __iter__(self) -> Iterator[list[VideoRequest]]:
        """The batches of this process."""
        rng = np.random.default_rng((self.seed, self.epoch))
        steps = []
        for kind in self.kinds:
            rows = self._ordered_rows(kind, rng)
            steps += [
                rows[start : start + self.questions_per_step] for start in range(0, len(rows), self.questions_per_step)
            ]
        for index in rng.permutation(len(steps)):
            own = steps[index][self.process_index * self.batch_size :][: self.batch_size]
            by_video: dict[tuple, list[int]] = {}
            for row in own:
                by_video.setdefault(self.dataset.questions[row].video_group, []).append(row)
            yield [
                VideoRequest(tuple(rows), epoch=self.epoch, seed=self.seed, num_clips=self.num_clips)
                for rows in by_video.values()
            ]


class EvaluationBatchSampler(Sampler[list[VideoRequest]]):
    r"""
    The batches of an evaluation for one process: one task and number of candidates a batch, all such questions about a
    video in one batch, so that it is decoded and encoded once.

    Videos are added to a batch until it has `batch_size` questions or more. Each process has the same number of
    batches: some may get a batch a second time, whose answers are the same and count once.

    Args:
        dataset ([`VideoQuestionDataset`]): The questions.
        batch_size (`int`): Questions that fill a batch.
        num_processes (`int`, *optional*, defaults to 1): Processes of the run.
        process_index (`int`, *optional*, defaults to 0): Which of them this sampler serves.
        eval_offsets (`int`, *optional*, defaults to 1): Anchor starts that each question is answered from.
    """

    def __init__(
        self,
        dataset: VideoQuestionDataset,
        batch_size: int,
        num_processes: int = 1,
        process_index: int = 0,
        eval_offsets: int = 1,
    ):
        batches = []
        for kind in dataset.kinds:
            batch: list[VideoRequest] = []
            for rows in dataset.groups_of(kind):
                batch.append(VideoRequest(tuple(rows), eval_offsets=eval_offsets))
                if sum(len(request.rows) for request in batch) >= batch_size:
                    batches.append(batch)
                    batch = []
            if batch:
                batches.append(batch)
        steps = math.ceil(len(batches) / num_processes)
        repeated = batches * math.ceil(steps * num_processes / len(batches))
        self.batch_size = batch_size  # accelerate asks for it
        self.batches = repeated[process_index : steps * num_processes : num_processes]

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[VideoRequest]]:
        """The batches of this process."""
        return iter(self.batches)


class SiaSamReaDataCollator:
    r"""
    Makes a batch of [`VideoQuestionDataset`]'s items: tokenizes, pads frames, leaves out unreadable videos.

    Args:
        processor ([`SiaSamReaProcessor`]): Tokenizes questions and candidates.
        label2id (`dict[str, int]`): The answer vocabulary, `model.config.label2id`.
        max_length (`int`, *optional*): Longest text in tokens; the tokenizer's own limit by default.

    Returns:
        `dict`: what the model's forward takes, and besides `rows` (the row of each question), `unreadable` (pairs of
        a row and the reason why its video could not be read; these rows are in nothing else) and `truncated` (texts
        that were longer than the limit). Where no video could be read, these three are all there is.

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
        """
        Raises a `ValueError` that names the rows with a candidate that is longer than the limit by itself: no question
        can be shortened for it, and a run should not find that out at night.
        """
        tokenizer = self.processor.tokenizer
        limit = self.max_length or tokenizer.model_max_length
        # A token has a byte at least.
        long = sorted({text for one in questions for text in one.candidates or () if len(text.encode()) > limit - 2})
        ids = tokenizer(long, truncation=False, verbose=False)["input_ids"] if long else []
        too_long = {text: len(tokens) for text, tokens in zip(long, ids) if len(tokens) > limit}
        rows = [question for question in questions if not too_long.keys().isdisjoint(question.candidates or ())]
        if rows:
            candidate = next(text for text in rows[0].candidates if text in too_long)
            named = ", ".join(repr(question.question_id) for question in rows[:5])
            raise ValueError(
                f"{len(rows)} rows have a candidate that does not fit into the limit of {limit} tokens, so that it "
                f"could not be told from others; their question_id: {named}{', ...' if len(rows) > 5 else ''}. The "
                f"first, {candidate!r:.80}, has {too_long[candidate]}. Shorten them, or raise max_text_length."
            )

    def __call__(self, items: list[dict]) -> dict:
        """Collates items of one kind."""
        readable = [item for item in items if "error" not in item]
        unreadable = [(row, item["error"]) for item in items if "error" in item for row in item["rows"]]
        questions = [question for item in readable for question in item["questions"]]
        counts = [len(item["rows"]) for item in readable]
        if not readable:
            return {"rows": torch.empty(0, dtype=torch.long), "unreadable": unreadable, "truncated": 0}
        truncated_before = self.processor.num_truncated
        text = self._text(questions)
        batch = {
            "rows": torch.tensor([row for item in readable for row in item["rows"]]),
            "unreadable": unreadable,
            "truncated": self.processor.num_truncated - truncated_before,
            "task": questions[0].task,
            "video_index": torch.arange(len(readable)).repeat_interleave(torch.tensor(counts)),
            **_clips(readable),
            "frame_mask": stack_padded([item["frame_mask"] for item in readable]),
            "labels": torch.tensor([self._label(question) for question in questions]),
            **text,
        }
        return batch

    def _text(self, questions: list[VideoQuestion]) -> dict[str, torch.Tensor]:
        choices = [list(question.candidates) for question in questions if question.candidates is not None]
        return dict(
            self.processor(
                text=[question.question for question in questions],
                candidates=choices or None,
                max_length=self.max_length,
                return_tensors="pt",
            )
        )

    def _label(self, question: VideoQuestion) -> int | float:
        if question.task == "open_ended":
            # The commonest right answer that the vocabulary has: it is in order of falling count.
            known = [self.label2id[answer] for answer in question.right_answers if answer in self.label2id]
            return min(known, default=-100)
        return -100 if question.answer is None else question.answer


def _clips(items: list[dict]) -> dict[str, torch.Tensor | list]:
    """The clips of items: pixels, or what is known of their features."""
    if "frame_features" in items[0]:
        return {"frame_features": [item["frame_features"] for item in items]}
    return {"pixel_values_videos": stack_padded([item["pixel_values_videos"] for item in items])}


def stack_padded(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Stacks tensors of different sizes: zeros are added at the end of each dimension that is short."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors))]
    stacked = tensors[0].new_zeros((len(tensors), *shape))
    for place, tensor in zip(stacked, tensors):
        place[tuple(slice(size) for size in tensor.shape)] = tensor
    return stacked


__all__ = [
    "EvaluationBatchSampler",
    "SiaSamReaDataCollator",
    "TrainingBatchSampler",
    "UnreadableVideoError",
    "VideoQuestionDataset",
    "VideoRequest",
    "frame_seed",
    "stack_padded",
]
