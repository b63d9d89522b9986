"""Features of frames on disk: the store, and the reader that samples clips from it."""

import hashlib
import json
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from ..processors.disk_cache import digest, new_file
from ..processors.video_decoding import VideoDecodingError, decode_frames, span_of
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from ..processors.video_source import absolute_path
from .questions import VideoQuestion


VERSION = 2  # to be raised where the same settings give other frames or features
# Settings of a video processor that choose frames, but change none.
SAMPLING = (
    *("training", "seed", "start", "end", "eval_offset", "shuffle_frames", "num_clips", "num_eval_clips"),
    *("frames_per_clip", "min_frames", "max_frames", "sampling", "window", "fps", "num_frames", "do_sample_frames"),
    *("download_limits", "return_metadata", "video_metadata", "return_tensors", "device", "input_data_format"),
)


class FrameFeatureStore:
    r"""
    A folder with the features of each frame in a file of its own, which processes and runs share. Files appear whole,
    even if a process is killed; a damaged one counts as missing, so its features are computed again.

    Args:
        folder (`str` or `Path`): The folder; made if it is not there.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def content(self, video: str | dict[str, Any]) -> str | None:
        """
        Returns a digest of a video's content, wherever the video lies; `None` for an address and for a path that is no
        file. The digest of a file is kept by its path, size and time of change, so that the file is read once.
        """
        if isinstance(video, dict):
            return hashlib.blake2b(video["bytes"]).hexdigest()
        path = absolute_path(video)
        if not os.path.isfile(path):
            return None
        status = os.stat(path)
        note = self.folder / "contents" / digest(path, status.st_size, status.st_mtime_ns)
        if note.exists():
            return note.read_text()
        try:
            with open(path, "rb") as file:
                content = hashlib.blake2b()
                while part := file.read(1 << 20):
                    content.update(part)
        except OSError:  # decoding says what is wrong with the file
            return None
        with new_file(note) as file:
            file.write(content.hexdigest().encode())
        return content.hexdigest()

    def read(self, source: str, frame: int) -> torch.Tensor | None:
        """Reads the features `(channels, rows, columns)` of a frame; `None` if they are missing or damaged."""
        try:
            content = self._file(source, frame).read_bytes()
        except FileNotFoundError:
            return None
        checksum, features = content[:4], content[4:]
        return load(features)["features"] if checksum == _checksum(features) else None

    def write(self, source: str, frame: int, features: torch.Tensor) -> None:
        """Writes the features of a frame."""
        content = save({"features": features})
        with new_file(self._file(source, frame)) as file:
            file.write(_checksum(content) + content)

    def _file(self, source: str, frame: int) -> Path:
        return self.folder / source / str(frame)


@dataclass
class ClipFrames:
    """
    The distinct frames of a video's clips: features of those in the store, pixels of the others.

    Args:
        source (`str`, *optional*): The name of the video in the store; `None` if its features are not kept.
        frames (`list[int]`): The frames' indices in the video, sorted.
        is_stored (`list[bool]`): Which of them the store has.
        features (`torch.Tensor` of shape `(stored, channels, rows, columns)`): Features of these.
        pixels (`torch.Tensor` of shape `(others, 3, height, width)`): The other frames, resized, not yet normalised.
        positions (`torch.Tensor` of shape `(clips, frames)`): Where in `frames` each clip's frames are.
    """

    source: str | None
    frames: list[int]
    is_stored: list[bool]
    features: torch.Tensor
    pixels: torch.Tensor
    positions: torch.Tensor


class FrameFeatureReader:
    r"""
    Reads the clips of a data set's item, from the store as far as it has them. A frame in the store is not decoded.

    Only whole frames of files and of bytes that came with the rows are kept. Not kept are those of addresses, whose
    content may change unnoticed, and reads that met damage, where a frame's picture depends on which others are read:
    these are decoded and encoded each time, as without a store.

    Args:
        store ([`FrameFeatureStore`]): The store.
        encoder (`str`): A digest of all that features depend on, except for the frame.
        video_processor ([`SiaSamReaVideoProcessor`]): Samples and resizes.
    """

    def __init__(self, store: FrameFeatureStore, encoder: str, video_processor: SiaSamReaVideoProcessor):
        self.store, self.encoder, self.video_processor = store, encoder, video_processor

    def read(self, question: VideoQuestion, sampling: dict[str, Any]) -> ClipFrames:
        r"""
        Reads the frames of clips of the video that a question is about.

        Args:
            question ([`VideoQuestion`]): The question.
            sampling (`dict`): How clips are sampled, as [`~SiaSamReaVideoProcessor.sample_clips_of`] takes it.

        Raises:
            [`VideoDecodingError`]: If the video cannot be read.
        """
        video, clips = self.store.content(question.video_source), None
        with suppress(VideoDecodingError):  # whether a damaged video can be read depends on the frames
            clips = None if video is None else self._read_stored(video, question, sampling)
        return clips or self._decode(question, sampling)

    def _read_stored(self, video: str, question: VideoQuestion, sampling: dict[str, Any]) -> ClipFrames | None:
        """Reads stored frames and decodes the others; returns `None` if the decoder met damage."""
        span = {"start": question.start, "end": question.end}
        first, metadata = span_of(question.video_source, **span)
        indices = self.video_processor.sample_indices(metadata, **sampling)  # (clips, frames)
        unique, positions = np.unique(indices, return_inverse=True)
        source, frames = digest(video, self.encoder), (first + unique).tolist()
        features = [self.store.read(source, frame) for frame in frames]
        is_stored = [of_frame is not None for of_frame in features]
        stored = [of_frame for of_frame in features if of_frame is not None]
        pixels = torch.empty(0)
        if len(stored) < len(frames):
            missing = unique[~np.array(is_stored)]
            pixels, decoded = decode_frames(
                question.video_source, missing, **span, transform=self.video_processor.resize_frames
            )
            if not decoded.intact:
                return None
        stored = torch.stack(stored) if stored else torch.empty(0)
        return ClipFrames(source, frames, is_stored, stored, pixels, torch.as_tensor(positions.reshape(indices.shape)))

    def _decode(self, question: VideoQuestion, sampling: dict[str, Any]) -> ClipFrames:
        """Decodes all frames; none of them is to be stored."""
        span, resize = (question.start, question.end), self.video_processor.resize_frames
        sampled = self.video_processor.sample_clips_of(question.video_source, *span, resize, **sampling)
        unique = np.unique(sampled.indices).tolist()
        is_stored = [False] * len(unique)
        return ClipFrames(None, unique, is_stored, torch.empty(0), sampled.frames, sampled.positions)


def frame_settings(video_processor: SiaSamReaVideoProcessor) -> str:
    """Returns the settings of a video processor that change a frame's pixels, as text."""
    names = sorted(set(video_processor.valid_kwargs.__annotations__) - set(SAMPLING))
    return json.dumps({name: getattr(video_processor, name, None) for name in names}, default=dict)


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")
