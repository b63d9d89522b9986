"""Features of frames on disk: the store, and the reader that samples clips from it."""

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..processors.video_decoding import FrameTimes, VideoDecodingError, decode_frames, span_of
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from ..processors.video_source import absolute_path
from .questions import VideoQuestion


FILE_NAME = "frame_features.sqlite"
APPLICATION_ID = 0x53534652  # "SSFR", in the file's head
VERSION = 2  # to be raised where the same settings give other frames or features
BUSY_SECONDS = 300  # that a process waits for another's transaction
SCHEMA = (
    "CREATE TABLE features (source TEXT, frame INTEGER, features BLOB, checksum INTEGER, PRIMARY KEY (source, frame))",
    "CREATE TABLE spans (span TEXT PRIMARY KEY, first INTEGER, frames INTEGER, fps REAL, duration REAL)",
    "CREATE TABLE contents (file TEXT PRIMARY KEY, content TEXT)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
# Settings of a video processor that choose frames, but change none.
SAMPLING = (
    *("training", "seed", "start", "end", "eval_offset", "shuffle_frames", "num_clips", "num_eval_clips"),
    *("frames_per_clip", "min_frames", "max_frames", "sampling", "window", "fps", "num_frames", "do_sample_frames"),
    *("download_limits", "return_metadata", "video_metadata", "return_tensors", "device", "input_data_format"),
)


class FrameFeaturesError(ValueError):
    """Raised when the file of stored features is damaged, another program's, or cannot be read or written."""


class FrameFeatureStore:
    r"""
    One SQLite file of frames' features, which processes and runs share. What is written is there whole or not at all,
    whenever a process is killed. Each call opens the file anew, so a store can be forked and pickled.

    Args:
        folder (`str` or `Path`): The folder of the file; made if it is not there. SQLite needs a disk with locks.

    Raises:
        [`FrameFeaturesError`]: If the file is damaged, another program's, or cannot be read or written.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / FILE_NAME
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FrameFeaturesError(
                f"The folder {folder} of frame features cannot be made: {error.strerror}."
            ) from None
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise sqlite3.DatabaseError("it is the file of another program")
                for statement in SCHEMA:
                    connection.execute(statement)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction whose errors are all [`FrameFeaturesError`]."""
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection, connection:
                yield connection
        except (sqlite3.Error, SafetensorError) as error:
            raise FrameFeaturesError(
                f"{self.path} cannot be used as a store of frame features ({error}). If it is damaged or another "
                "program's, delete or move it, and features are computed again; otherwise see that the folder can be "
                "written and the disk has room."
            ) from None

    def content(self, video: str | dict[str, Any]) -> str | None:
        """
        Returns a digest of a video's content, the same wherever the video lies; `None` for an address, and for what
        is no file. The digest of a file is noted by its path, size and time of change, so that it is read once.
        """
        if isinstance(video, dict):
            return hashlib.blake2b(video["bytes"], digest_size=16).hexdigest()
        path = absolute_path(video)
        if not os.path.isfile(path):
            return None
        status = os.stat(path)
        file = _digest(path, status.st_size, status.st_mtime_ns)
        with self._connection() as connection:
            noted = connection.execute("SELECT content FROM contents WHERE file = ?", (file,)).fetchone()
            content = noted[0] if noted else _digest_file(path)
            if content is not None and not noted:
                connection.execute("INSERT OR IGNORE INTO contents VALUES (?, ?)", (file, content))
        return content

    def features(self, source: str, frames: list[int]) -> list[torch.Tensor | None]:
        """Reads features `(channels, rows, columns)` of a video's frames; `None` for those that are not there."""
        query = "SELECT features, checksum FROM features WHERE source = ? AND frame = ?"
        with self._connection() as connection:
            return [self._read(connection.execute(query, (source, frame)).fetchone()) for frame in frames]

    @staticmethod
    def _read(row: tuple[bytes, int] | None) -> torch.Tensor | None:
        if row is None:
            return None
        if zlib.crc32(row[0]) != row[1]:
            raise sqlite3.DatabaseError("the features of a frame are not as they were written")
        return load(row[0])["features"]

    def add_features(self, features: dict[tuple[str, int], torch.Tensor]) -> None:
        """Writes features by source and frame, in one transaction; those that are there already stay."""
        blobs = ((*key, save({"features": value})) for key, value in features.items())
        with self._connection() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO features VALUES (?, ?, ?, ?)",
                ((source, frame, blob, zlib.crc32(blob)) for source, frame, blob in blobs),
            )

    def span(self, span: str) -> tuple[int, FrameTimes] | None:
        """Reads a span's first frame and its metadata without times, see [`span_of`]; `None` if it is not there."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT first, frames, fps, duration FROM spans WHERE span = ?", (span,)
            ).fetchone()
        return row and (row[0], FrameTimes(row[1], fps=row[2], duration=row[3]))

    def add_span(self, span: str, first: int, metadata: FrameTimes) -> None:
        """Writes what [`~FrameFeatureStore.span`] reads."""
        row = (span, first, metadata.total_num_frames, float(metadata.fps), float(metadata.duration))
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?)", row)


@dataclass
class ClipFrames:
    """
    The distinct frames of a video's clips: features of those in the store, pixels of the others.

    Args:
        source (`str`, *optional*): What the store calls the video; `None` if its features are not to be kept.
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
    Reads the clips of a data set's item, from the store as far as it has them. A frame in the store is not decoded,
    and a video whose frames are all there is not opened.

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
        video = self.store.content(question.video_source)
        clips = None
        if video is not None:
            try:
                clips = self._read_stored(video, question, sampling)
            except VideoDecodingError:
                pass  # whether a damaged video can be read depends on the frames: all of them are read below
        return clips or self._decode(question, sampling)

    def _read_stored(self, video: str, question: VideoQuestion, sampling: dict[str, Any]) -> ClipFrames | None:
        """Reads stored frames and decodes the others; returns `None` if the decoder met damage."""
        span = {"start": question.start, "end": question.end}
        name = _digest(video, VERSION, av.__version__, *span.values())
        first, metadata = self.store.span(name) or (None, None)
        if metadata is None:
            first, metadata = span_of(question.video_source, **span)
            self.store.add_span(name, first, metadata)
        indices = self.video_processor.sample_indices(metadata, **sampling)  # (clips, frames)
        unique, positions = np.unique(indices, return_inverse=True)
        source, frames = _digest(video, self.encoder), (first + unique).tolist()
        features = self.store.features(source, frames)
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
        sampled = self.video_processor.sample_clips_of(
            question.video_source,
            start=question.start,
            end=question.end,
            transform=self.video_processor.resize_frames,
            **sampling,
        )
        unique = np.unique(sampled.indices).tolist()
        is_stored = [False] * len(unique)
        return ClipFrames(None, unique, is_stored, torch.empty(0), sampled.frames, sampled.positions)


def _settings(video_processor: SiaSamReaVideoProcessor) -> str:
    """Returns the settings of a video processor that change a frame's pixels, as text."""
    names = sorted(set(video_processor.valid_kwargs.__annotations__) - set(SAMPLING))
    return json.dumps({name: getattr(video_processor, name, None) for name in names}, default=dict)


def _digest_file(path: str) -> str | None:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError:  # decoding says what is wrong with it
        return None
    return digest.hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


__all__ = ["FrameFeatureStore", "FrameFeaturesError"]
