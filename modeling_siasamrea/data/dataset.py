"""The data set of video questions: it decodes the clips that a sampler requests."""

import hashlib
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..processors.video_decoding import VideoDecodingError
from .questions import VideoQuestion
from .workers import note_row


SUBSTITUTES = 100  # videos that are tried where no video of a batch can be read


class VideoRequest(NamedTuple):
    """
    What a batch sampler requests from the data set: questions about one video, and how to sample its frames.

    The epoch travels with the request, so worker processes need not be told that a new one began.

    Args:
        rows (`tuple[int, ...]`): The questions' rows; all are of one video group.
        epoch (`int`, *optional*): The epoch, for training; `None` asks for evaluation's clips.
        seed (`int`, *optional*, defaults to 0): The run's seed.
        num_clips (`int`, *optional*): Clips to sample; the video processor's own number by default.
    """

    rows: tuple[int, ...]
    epoch: int | None = None
    seed: int = 0
    num_clips: int | None = None


class UnreadableVideoError(ValueError):
    """Raised when no training video can be read."""


def frame_seed(seed: int, epoch: int, question_id: str) -> int:
    """Computes the seed of a video's clips, which is the same on every machine, process and worker."""
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
        self.unreadable_kinds: set[tuple[str, int]] = set()  # that training leaves out, see `check_readable`
        self.eval_sampling: dict[str, Any] = {}  # how evaluation's clips are sampled, beside the processor's settings
        self.frame_features: Any | None = None  # a FrameFeatureReader, where a Trainer keeps features
        self.notes: torch.Tensor | None = None  # where loader workers note the rows that they read

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

    def __getitem__(self, request: VideoRequest | int) -> dict:
        r"""
        Decodes a video.

        Args:
            request ([`VideoRequest`] or `int`): Questions about a video, or a row, which gets evaluation's clips.

        Returns:
            `dict`: `rows`, `questions` and `training`, with `pixel_values_videos` `(clips, frames, 3, height, width)`
            (whole pixel values as uint8 where the video processor rounds frames, else normalised floats) and
            `frame_mask` `(frames,)` and `frame_times`, the seconds of the first clip's frames; or with `error`, the
            reason why the video cannot be read. Where features are kept, `frame_features`, the [`ClipFrames`], stand
            in for the pixels, and there are no times.
        """
        request = VideoRequest((request,)) if isinstance(request, int) else request
        questions = [self.questions[row] for row in request.rows]
        item = {"rows": request.rows, "questions": questions, "training": request.epoch is not None}
        first = self.questions[self.groups[questions[0].video_group][0]]
        seed = frame_seed(request.seed, request.epoch or 0, first.question_id)
        sampling = {"training": item["training"], "seed": seed}
        if not item["training"]:
            sampling |= self.eval_sampling
        if request.num_clips is not None:
            sampling["num_clips"] = request.num_clips
        note_row(self.notes, request.rows[0])
        try:
            return item | self._read(questions, sampling)
        except VideoDecodingError as error:
            return item | {"error": str(error)}

    def _read(self, questions: list[VideoQuestion], sampling: dict[str, Any]) -> dict[str, Any]:
        """Reads what an item holds of the video that the questions are about."""
        question = questions[0]  # all are about the same part of the video
        if self.frame_features is not None:
            clips = self.frame_features.read(question, sampling)
            frame_mask = torch.ones(clips.positions.shape[1], dtype=torch.long)
            return {"frame_features": clips, "frame_mask": frame_mask}
        how = sampling | {"start": question.start, "end": question.end, "return_metadata": True}
        if self.video_processor.round_frames:
            how |= {"do_rescale": False, "do_normalize": False}
        video = self.video_processor([question.video_source], return_tensors="pt", **how)
        clips, (metadata,) = video["pixel_values_videos"][0], video["video_metadata"]
        times = metadata.timestamps[: clips.shape[1]]
        return {"pixel_values_videos": clips, "frame_mask": video["frame_mask"][0], "frame_times": times}

    def __getitems__(self, requests: list[VideoRequest]) -> list[dict]:
        """
        Returns a batch. If no video of a training batch can be read, adds one of the same kind that can, because every
        process of a distributed run must compute something at every step.
        """
        items = [self[request] for request in requests]
        if items[0]["training"] and all("error" in item for item in items):
            items.append(self._substitute(requests, items[0]["error"]))
        return items

    def _substitute(self, requests: list[VideoRequest], first_error: str) -> dict:
        """Reads one of `SUBSTITUTES` videos that are spread evenly over the others of the kind."""
        failed = self.questions[requests[-1].rows[-1]]
        groups = self.groups_of(failed.kind)
        position = groups.index(self.groups[failed.video_group])
        others = groups[position + 1 :] + groups[:position]
        tried = others[:: max(1, len(others) // SUBSTITUTES)]
        number = sum(len(request.rows) for request in requests)
        for rows in tried:
            item = self[requests[-1]._replace(rows=tuple(rows[:number]))]
            if "error" not in item:
                return item
        raise UnreadableVideoError(
            f"No other video of the task {failed.task!r} can be read now; the first failure: {first_error}"
        )

    def check_readable(self) -> dict[int, str]:
        r"""
        Looks for a readable video of each kind, and notes the kinds without one. A [`TrainingBatchSampler`] that is
        made afterwards leaves these out.

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
                f"No training video can be read, so there is nothing to train on. The first failure: {left_out[0]}"
            )
        return left_out
