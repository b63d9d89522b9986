"""Frames of a video at given indices, in one pass, by decord, torchcodec or PyAV."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from transformers.image_utils import ImageInput
from transformers.utils import is_torchcodec_usable
from transformers.video_utils import VideoMetadata

from .frames_in_memory import count_frames, is_frames, pick_frames
from .video_source import VideoDecodingError, VideoSource, local_file, source_name


VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".gif", ".mov", ".m4v", ".mpg", ".mpeg")
# decord and torchcodec seek, which finds the right frame only in containers that give each frame its time: in AVI and
# MPEG streams they return others than a decode from the start does. PyAV decodes from the start.
SEEKABLE = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
# Packets at the end of a stream that carry no frame of their own: AVIs with packed B-frames have one.
EMPTY_PACKETS = 2

Video = VideoSource | np.ndarray | torch.Tensor | list[ImageInput] | list[VideoSource]
Sampler = Callable[[VideoMetadata], np.ndarray]


def decode_frames(
    video: Video,
    indices: np.ndarray | list[int] | Sampler,
    start: float | None = None,
    end: float | None = None,
    backend: str | None = None,
) -> tuple[torch.Tensor, VideoMetadata]:
    r"""
    Frames of a video at given indices. The file is opened once and each frame is decoded once.

    Args:
        video:
            A file, an http(s) address, bytes or a file object, see [`local_file`]; or frames, see
            [`count_frames`].
        indices (`np.ndarray`, `list[int]` or `Callable`):
            Indices of frames within the span, in any order, or a function from the span's metadata to them.
        start (`float`, *optional*): Start of the span in seconds; the video's start by default.
        end (`float`, *optional*): End of the span in seconds; the video's end by default.
        backend (`str`, *optional*):
            `"decord"`, `"torchcodec"` or `"pyav"`. By default the first of them that is installed, and the next ones
            where it fails on a file.

    Returns:
        `tuple[torch.Tensor, VideoMetadata]`: frames `(indices, 3, height, width)` as uint8, RGB, and metadata of the
        span: `total_num_frames`, `fps`, `duration` in seconds (frames in memory have no `fps`).

    Raises:
        [`VideoDecodingError`]: If the file is missing, empty, damaged or without a picture, or the span is outside it.
        `ValueError`: If an index is outside the span.
    """
    if is_frames(video):
        return _frames_in_memory(video, indices, start, end)
    name = source_name(video)
    with local_file(video) as path:
        failures = []
        for reader in [backend] if backend else _backends(path):
            try:
                return READERS[reader](name, path, indices, start, end)
            except VideoDecodingError as error:
                failures.append(error)
        raise failures[-1]


def _backends(path: str) -> list[str]:
    """Decoders to try, in order."""
    if not path.lower().endswith(SEEKABLE):
        return ["pyav"]
    decord = ["decord"] if importlib.util.find_spec("decord") else []
    torchcodec = ["torchcodec"] if is_torchcodec_usable(decode="video") else []
    return [*decord, *torchcodec, "pyav"]


def _span(
    name: str,
    num_frames: int,
    fps: float,
    indices: np.ndarray | list[int] | Sampler,
    start: float | None,
    end: float | None,
) -> tuple[np.ndarray, VideoMetadata]:
    """Absolute indices of the wanted frames, and metadata of the span, of a video of `num_frames` frames."""
    if not num_frames:
        raise VideoDecodingError(name, "it has no frames")
    first = 0 if start is None else round(start * fps)
    last = num_frames if end is None else min(num_frames, max(first + 1, round(end * fps)))
    if start is not None and (start < 0 or first >= num_frames):
        raise VideoDecodingError(name, f"the span starts at {start} s, but the video is {num_frames / fps:.2f} s long")
    if end is not None and end <= (start or 0):
        raise VideoDecodingError(name, f"the span ends at {end} s, which is not after its start at {start or 0} s")
    metadata = VideoMetadata(total_num_frames=last - first, fps=fps, duration=(last - first) / fps if fps else None)
    indices = np.asarray(indices(metadata) if callable(indices) else indices, dtype=np.int64).ravel()
    if indices.size == 0 or indices.min() < 0 or indices.max() >= last - first:
        raise ValueError(
            f"The video {name} has {last - first} frames in the span asked for, but the indices reach from "
            f"{indices.min(initial=0)} to {indices.max(initial=0)}."
        )
    return indices + first, metadata


def _frames_in_memory(
    video: np.ndarray | torch.Tensor | list,
    indices: np.ndarray | list[int] | Sampler,
    start: float | None,
    end: float | None,
) -> tuple[torch.Tensor, VideoMetadata]:
    name = "in memory"
    if start is not None or end is not None:
        raise VideoDecodingError(
            name, "start and end are in seconds, but frames in memory have no time; cut the frames instead"
        )
    wanted, metadata = _span(name, count_frames(video), 0.0, indices, None, None)
    metadata.fps = None
    return pick_frames(video, wanted), metadata


def _decoder_threads() -> int:
    """Threads of a decoder: 0 lets it choose; one in a loader's worker, beside which others decode."""
    return 0 if torch.utils.data.get_worker_info() is None else 1


def _restore(frames: torch.Tensor, unique: np.ndarray, inverse: np.ndarray) -> torch.Tensor:
    """Frames of the sorted, unique indices back in the order asked for."""
    in_order = len(unique) == len(inverse) and (inverse == np.arange(len(inverse))).all()
    return frames if in_order else frames[torch.as_tensor(inverse)]


@contextmanager
def _explaining(name: str, decoder: str, *errors: type[Exception]) -> Iterator[None]:
    """Turns a decoder's errors into the one of this module."""
    try:
        yield
    except errors as error:
        raise VideoDecodingError(name, f"{decoder} says {_first_line(error)!r}") from None


def _read_decord(
    name: str, path: str, indices: np.ndarray | list[int] | Sampler, start: float | None, end: float | None
) -> tuple[torch.Tensor, VideoMetadata]:
    decord = import_module("decord")
    with _explaining(name, "decord", decord.DECORDError, RuntimeError):
        reader = decord.VideoReader(path, num_threads=_decoder_threads())
        wanted, metadata = _span(name, len(reader), reader.get_avg_fps(), indices, start, end)
        unique, inverse = np.unique(wanted, return_inverse=True)
        frames = reader.get_batch(unique.tolist())
        frames = torch.from_dlpack(frames.to_dlpack()).permute(0, 3, 1, 2)  # asnumpy() would copy them
        del reader  # an idle reader keeps decoding ahead
    return _restore(frames, unique, inverse), metadata


def _read_torchcodec(
    name: str, path: str, indices: np.ndarray | list[int] | Sampler, start: float | None, end: float | None
) -> tuple[torch.Tensor, VideoMetadata]:
    threads = _decoder_threads()
    with _explaining(name, "torchcodec", RuntimeError, OSError, ValueError):
        decoder = import_module("torchcodec.decoders").VideoDecoder(
            path, seek_mode="exact", num_ffmpeg_threads=threads
        )
        num_frames, fps = decoder.metadata.num_frames, decoder.metadata.average_fps
    wanted, metadata = _span(name, num_frames, fps, indices, start, end)
    unique, inverse = np.unique(wanted, return_inverse=True)
    with _explaining(name, "torchcodec", RuntimeError, OSError, IndexError):
        frames = decoder.get_frames_at(unique.tolist()).data
    return _restore(frames, unique, inverse), metadata


def _read_pyav(
    name: str, path: str, indices: np.ndarray | list[int] | Sampler, start: float | None, end: float | None
) -> tuple[torch.Tensor, VideoMetadata]:
    av = import_module("av")
    try:
        with av.open(path, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoDecodingError(name, "it has no video stream")
            fps = float(container.streams.video[0].average_rate or 1)
            # The container's own count is missing or wrong in some formats: count the packets.
            num_frames = sum(1 for packet in container.demux(video=0) if packet.size)
        wanted, metadata = _span(name, num_frames, fps, indices, start, end)
        frames, decoded = _decode_from_start(av, path, np.unique(wanted))
        if decoded < num_frames and decoded >= num_frames - EMPTY_PACKETS and decoded <= wanted.max():
            num_frames = decoded
            wanted, metadata = _span(name, num_frames, fps, indices, start, end)
            frames, decoded = _decode_from_start(av, path, np.unique(wanted))
    except av.FFmpegError as error:
        raise VideoDecodingError(name, f"it is damaged or no video ({_first_line(error)})") from None
    unique, inverse = np.unique(wanted, return_inverse=True)
    if len(frames) < len(unique):
        raise VideoDecodingError(name, f"it is damaged: only {decoded} of its {num_frames} frames can be decoded")
    return _restore(torch.stack(frames).permute(0, 3, 1, 2), unique, inverse), metadata


def _decode_from_start(av: ModuleType, path: str, unique: np.ndarray) -> tuple[list[torch.Tensor], int]:
    """Frames `(height, width, 3)` at sorted, unique indices, and how many frames were decoded to reach the last."""
    frames, remaining, decoded = [], unique.tolist()[::-1], 0
    with av.open(path, metadata_errors="ignore") as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if decoded == remaining[-1]:
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
                remaining.pop()
            decoded += 1
            if not remaining:
                break
    return frames, decoded


def _first_line(error: Exception) -> str:
    """What a decoder says of a failure, without its own stack and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


READERS = {"decord": _read_decord, "torchcodec": _read_torchcodec, "pyav": _read_pyav}

__all__ = ["VideoDecodingError", "decode_frames"]
