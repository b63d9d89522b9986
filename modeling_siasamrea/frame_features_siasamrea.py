"""Features of frames on disk: a frozen image encoder sees each frame once, not in every epoch, run and evaluation."""

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
import transformers
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from .annotations_siasamrea import VideoQuestion
from .data_siasamrea import VideoQuestionDataset, stack_padded
from .image_encoder_siasamrea import SiaSamReaImageEncoder
from .processors.video_decoding import FrameTimes, VideoDecodingError, decode_frames, span_of
from .processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from .processors.video_source import absolute_path
from .training_args_siasamrea import SiaSamReaTrainingArguments


FILE_NAME = "frame_features.sqlite"
APPLICATION_ID = 0x53534652  # "SSFR", in the file's head
VERSION = 1  # to be raised where the same settings give other frames or features
BUSY_SECONDS = 300  # that a process waits for another's transaction
SCHEMA = (
    "CREATE TABLE features (source TEXT, frame INTEGER, features BLOB, checksum INTEGER, PRIMARY KEY (source, frame))",
    "CREATE TABLE spans (span TEXT PRIMARY KEY, first INTEGER, frames INTEGER, fps REAL, duration REAL)",
    "CREATE TABLE contents (file TEXT PRIMARY KEY, content TEXT)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
# Settings of a video processor that choose frames, but change none.
SAMPLING = (
    *("training", "seed", "start", "end", "eval_offsets", "num_clips", "num_eval_clips", "frames_per_clip"),
    *("min_frames", "max_frames", "sampling", "window", "fps", "num_frames", "do_sample_frames"),
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
        """A transaction, with one kind of error."""
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
        A digest of a video's content, the same wherever the video lies. That of a file is noted by its path, size and
        time of change, so that it is read for this once. `None` of an address, and of what is no file to be read.
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
        if noted is not None:
            return noted[0]
        content = _digest_file(path)
        if content is not None:
            with self._connection() as connection:
                connection.execute("INSERT OR IGNORE INTO contents VALUES (?, ?)", (file, content))
        return content

    def features(self, source: str, frames: list[int]) -> list[torch.Tensor | None]:
        """Features `(channels, rows, columns)` of a video's frames, `None` of those that are not there."""
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
        """The first frame of a span and its metadata without times, see [`span_of`]; `None` if it is not there."""
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


class ClipFrames(NamedTuple):
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
        encoder (`str`): A digest of all that a frame's features depend on but the frame itself.
        video_processor ([`SiaSamReaVideoProcessor`]): Samples and resizes.
    """

    def __init__(self, store: FrameFeatureStore, encoder: str, video_processor: SiaSamReaVideoProcessor):
        self.store, self.encoder, self.video_processor = store, encoder, video_processor

    def read(self, question: VideoQuestion, sampling: dict[str, Any]) -> ClipFrames:
        r"""
        The frames of the clips of the video that a question is about.

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
        """Stored frames and the missing ones; `None` if decoding these met damage."""
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
        """All frames decoded, none to be kept."""
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


class FrameFeatures:
    r"""
    The stored features of a Trainer's run: lets its data sets read them, and encodes what they did not find.

    Args:
        model (`nn.Module`): The model.
        args ([`SiaSamReaTrainingArguments`]): The training arguments; without `frame_features_dir` nothing is stored.
        video_processor ([`SiaSamReaVideoProcessor`]): Normalises frames.
        accelerator ([`Accelerator`]): Says in which precision the model runs.

    Raises:
        `ValueError`: If features could not stand in for the encoder, see [`check_frame_features`].
        [`FrameFeaturesError`]: If the store cannot be used.
    """

    def __init__(
        self,
        model: nn.Module,
        args: SiaSamReaTrainingArguments,
        video_processor: SiaSamReaVideoProcessor,
        accelerator: Accelerator,
    ):
        self.store = None
        if args.frame_features_dir is None:
            return
        self.image_encoder = next(each for each in model.modules() if isinstance(each, SiaSamReaImageEncoder))
        check_frame_features(self.image_encoder, args)
        self.store = FrameFeatureStore(args.frame_features_dir)
        self.args, self.video_processor, self.accelerator = args, video_processor, accelerator

    def attach(self, dataset: VideoQuestionDataset) -> None:
        """Lets a data set read features of the encoder as it is now; or none, where nothing is stored."""
        dataset.frame_features = None
        if self.store is not None:
            check_one_size(dataset.video_processor)
            of_encoder = digest_encoder(self.image_encoder)
            numbers = (VERSION, torch.__version__, transformers.__version__, av.__version__)
            numbers += (self.args.device.type, self.args.tf32, self.accelerator.mixed_precision)
            settings = (_settings(dataset.video_processor), _settings(self.video_processor))
            encoder = _digest(of_encoder, *numbers, *settings)
            dataset.frame_features = FrameFeatureReader(self.store, encoder, dataset.video_processor)

    def fill(self, batch: dict[str, Any]) -> dict[str, Any]:
        r"""
        Encodes the frames of a batch that the store lacks, and stores their features.

        Each frame is encoded by itself, so that its features are the same to the bit whichever others are missing.

        Args:
            batch (`dict`): A batch with a list of [`ClipFrames`] as `frame_features`; others stay as they are.

        Returns:
            `dict`: the batch with `frame_features` `(videos, clips, frames, channels, rows, columns)`, on the CPU.
        """
        if not isinstance(batch.get("frame_features"), list):
            return batch
        new: dict[tuple[str, int], torch.Tensor] = {}
        videos = []
        for clips in batch["frame_features"]:
            stored, others = iter(clips.features), iter(self._features_of_pixels(clips, new))
            features = torch.stack([next(stored if is_stored else others) for is_stored in clips.is_stored])
            videos.append(features[clips.positions])  # (clips, frames, channels, rows, columns)
        self.store.add_features(new)
        return batch | {"frame_features": stack_padded(videos)}

    def _features_of_pixels(
        self, clips: ClipFrames, new: dict[tuple[str, int], torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """Features of the frames that came as pixels; those that are to be stored are noted in `new`."""
        if clips.source is None:
            yield from map(self._encode, clips.pixels)
            return
        frames = [frame for frame, is_stored in zip(clips.frames, clips.is_stored) if not is_stored]
        # A batch is read before the one ahead of it is encoded, so they may be there by now.
        for frame, pixels, features in zip(frames, clips.pixels, self.store.features(clips.source, frames)):
            key = (clips.source, frame)
            if features is None and key not in new:
                new[key] = self._encode(pixels)
            yield new[key] if features is None else features

    @torch.no_grad()
    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features `(channels, rows, columns)` of a frame `(3, height, width)`, on the CPU."""
        encoder = self.image_encoder.encoder
        frame = self.video_processor.normalize_frames(pixels.to(self.args.device)[None]).to(encoder.dtype)
        with self.accelerator.autocast():
            return self.image_encoder.encode(frame)[0].cpu().contiguous()


def check_frame_features(image_encoder: SiaSamReaImageEncoder, args: SiaSamReaTrainingArguments) -> None:
    """Raises a `ValueError` if a frame's features may change during a run, or a process has not the whole encoder."""
    if args.fsdp_plugin_args is not None or args.deepspeed:
        raise ValueError(
            "frame_features_dir needs the whole image encoder in each process: leave out fsdp or deepspeed."
        )
    if args.bf16_full_eval or args.fp16_full_eval:
        raise ValueError(
            "frame_features_dir keeps features of one precision: leave out bf16_full_eval and fp16_full_eval."
        )
    why = _why_not_frozen(image_encoder)
    if why is not None:
        raise ValueError(
            f"frame_features_dir needs an image encoder that stays as it is, but {why}. Freeze it as a whole with "
            'frozen_image_encoder_modules=["all"] in the model\'s configuration, or leave out frame_features_dir.'
        )


def _why_not_frozen(image_encoder: SiaSamReaImageEncoder) -> str | None:
    """What of an image encoder changes in training; `None` if nothing does."""
    encoder = image_encoder.encoder
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    if trained:
        return f"{len(trained)} of its parameters train, such as {trained[0]}"
    mode = image_encoder.training
    image_encoder.train()
    moving = [name for name, module in encoder.named_modules() if module.training and _differs_in_training(module)]
    image_encoder.train(mode)
    return f"its {moving[0]} works differently in training" if moving else None


def _differs_in_training(module: nn.Module) -> bool:
    """Whether a module is a batch norm, or drops something: by a layer of its own, or by a share that it holds."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    shares = [value for name, value in vars(module).items() if "drop" in name]
    return any(isinstance(share, float) and share > 0 for share in shares)


def check_one_size(video_processor: SiaSamReaVideoProcessor) -> None:
    """Raises a `ValueError` if frames have different sizes: in a batch they would be padded to the largest."""
    size = video_processor.size if video_processor.do_resize else {}
    square = size.get("longest_edge") and video_processor.do_pad
    if not (video_processor.do_center_crop or (size.get("height") and size.get("width")) or square):
        raise ValueError(
            "frame_features_dir needs frames of one size, for a frame's features must not depend on its batch: let "
            "the video processor pad (do_pad) to a longest_edge, crop (do_center_crop), or resize to height and width."
        )


def digest_encoder(image_encoder: SiaSamReaImageEncoder) -> str:
    """A digest of an image encoder: its configuration, and the names, types and values of its weights."""
    encoder, config = image_encoder.encoder, image_encoder.config
    fields = config.vision_config.to_dict()
    fields = {name: value for name, value in fields.items() if name not in ("_name_or_path", "transformers_version")}
    fields |= {"attention": config.vision_config._attn_implementation, "fold": config.fold_batch_norm}
    digest = hashlib.blake2b(json.dumps(fields, sort_keys=True, default=str).encode(), digest_size=16)
    for name, value in encoder.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(video_processor: SiaSamReaVideoProcessor) -> str:
    """The settings that make a frame's pixels what they are."""
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


__all__ = ["FrameFeatureStore", "FrameFeatures", "FrameFeaturesError"]
