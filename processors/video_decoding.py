"""Frames of a video at given indices, as a player shows them, each turned and resized as soon as it is decoded."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice

import numpy as np
import torch
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from transformers.image_utils import ImageInput
from transformers.video_utils import VideoMetadata

from .frame_index import FrameIndex, LostFrameError, decode_packets, explaining, frame_index, open_video, read_packets
from .frames_in_memory import NAME, count_frames, is_frames, pick_frames
from .video_error import VideoDecodingError, first_line
from .video_source import VideoSource, local_file, source_name


VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".gif", ".mov", ".m4v", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".vob", ".wmv", ".asf", ".flv", ".3gp", ".ogv"),
)
BYTES_AT_FULL_SIZE = 1 << 25  # of frames that wait to be transformed, or one frame
# So many frames are decoded instead of skipped, because a seek costs about as much.
SEEK_OVER = 4
BACKENDS = ("pyav", "torchcodec")
# A time in seconds means the frame whose time it is, though containers round times to ticks.
TOLERANCE = 5e-4

Video = VideoSource | np.ndarray | torch.Tensor | list[ImageInput] | list[VideoSource]
Sampler = Callable[[VideoMetadata], np.ndarray]
Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class FrameTimes(VideoMetadata):
    """
    Describes a video or a span of it, with the time of every frame, because a rate may vary.

    Times are those of a player, whose clock begins with the video's first picture or sound. `duration` counts the
    seconds in which there are pictures.

    Args:
        times (`np.ndarray` of shape `(total_num_frames,)`, *optional*):
            When each frame of the span is shown, in seconds; `None` for frames in memory.
        video_end (`float`, *optional*):
            When the whole video ends, in seconds. Its sound may outlast its pictures; the last one stays on screen.
        intact (`bool`): Whether no damage was met on the way. What is shown of a damaged part depends on which other
            frames are asked for.
    """

    times: np.ndarray | None = None
    video_end: float | None = None
    intact: bool = True

    @property
    def timestamps(self) -> list[float]:
        """Returns when each of `frames_indices` is shown, in seconds."""
        if self.times is None or self.frames_indices is None:
            return super().timestamps
        return self.times[np.asarray(self.frames_indices)].tolist()


def decode_frames(
    video: Video,
    indices: np.ndarray | list[int] | Sampler,
    start: float | None = None,
    end: float | None = None,
    backend: str | None = None,
    transform: Transform | None = None,
    device: str | torch.device | None = None,
) -> tuple[torch.Tensor, FrameTimes]:
    r"""
    Decodes the frames of a video at given indices.

    An index counts the frames that a player shows, in the order of their times. A span holds the frames that begin
    from `start` up to `end`. If none does, it holds the frame on screen at `start`, or the first of the video if that
    begins later. Seconds are on the player's clock, which begins with the first picture or sound of the file. Pixels
    that are not square are stretched as players do.

    Args:
        video:
            A file, an address, bytes or a file object, see [`local_file`]; or frames, see [`count_frames`].
        indices (`np.ndarray`, `list[int]` or `Callable`):
            Indices of frames within the span, in any order, or a function that makes them of the span's metadata.
        start (`float`, *optional*): Start of the span in seconds; the video's start by default.
        end (`float`, *optional*): End of the span in seconds; the video's end by default.
        backend (`str`, *optional*):
            `"pyav"`, the default, or `"torchcodec"`, which reads the files whose frames it gives as a player shows
            them; PyAV reads the others.
        transform (`Callable`, *optional*):
            Applied to a few frames `(few, 3, height, width)` at a time, such as a resizing, so that frames are not
            held at full size.
        device (`str` or `torch.device`, *optional*):
            Where torchcodec decodes, such as `"cuda"`; the CPU by default. PyAV always decodes on the CPU.

    Returns:
        `tuple[torch.Tensor, FrameTimes]`: frames `(indices, 3, height, width)` as uint8, RGB (or what `transform`
        makes of them), and metadata of the span: `total_num_frames`, average `fps`, `duration` in seconds,
        `frames_indices` as asked for, and `times` of all frames (frames in memory have no `fps` and `times`).

    Raises:
        [`VideoDecodingError`]: If the file is missing, empty, damaged or without a picture, or the span is outside it.
        `ValueError`: If an index is outside the span, or `backend` is none of these.
    """
    if backend not in (None, *BACKENDS):
        raise ValueError(f"The video backend must be {' or '.join(BACKENDS)}; got {backend!r}.")
    if is_frames(video):
        return _frames_in_memory(video, indices, start, end, transform)
    name = source_name(video)
    with local_file(video) as path:
        index = frame_index(name, path)
        first, metadata = _span(name, index, start, end)
        wanted = first + _wanted(name, metadata, indices)
        unique, inverse = np.unique(wanted, return_inverse=True)
        frames = _read_torchcodec(path, index, unique, transform, device) if backend == "torchcodec" else None
        if frames is None:
            frames, metadata.intact = _read_pyav(name, path, index, unique, transform)
    in_order = len(unique) == len(inverse) and (inverse == np.arange(len(inverse))).all()
    return frames if in_order else frames[torch.as_tensor(inverse)], metadata


def span_of(video: VideoSource, start: float | None = None, end: float | None = None) -> tuple[int, FrameTimes]:
    """Returns the index in the file of a span's first frame, and the span's metadata, without decoding."""
    name = source_name(video)
    with local_file(video) as path:
        return _span(name, frame_index(name, path), start, end)


def _span(name: str, index: FrameIndex, start: float | None, end: float | None) -> tuple[int, FrameTimes]:
    """Returns the index of a span's first frame, and the span's metadata."""
    if start is not None and not 0 <= start < index.end:
        raise VideoDecodingError(name, f"the span starts at {start} s, but the video is {index.end:.2f} s long")
    if end is not None and not end > (start or 0):
        raise VideoDecodingError(name, f"the span ends at {end} s, which is not after its start at {start or 0} s")
    slack = min(float(index.tick) / 2, TOLERANCE)
    first, last = 0, len(index.times)
    if end is not None:
        last = int(np.searchsorted(index.times, end - slack))
    if start is not None:
        first = int(np.searchsorted(index.times, start - slack))
        first = min(first, max(last, 1) - 1, len(index.times) - 1)  # the frame on screen, if none begins
    last = max(last, first + 1)
    begins, ends = index.times[0], index.times[0] + index.duration
    duration = min(ends, end or np.inf) - max(begins, start or 0)
    if duration <= 0:  # before the first frame, or after the last
        duration = min(index.end, end or np.inf) - (start or 0)
    steady = abs(index.fps * duration - (last - first)) <= 1
    fps = index.fps if steady else (last - first) / duration
    times = index.times[first:last]
    return first, FrameTimes(last - first, fps=fps, duration=float(duration), times=times, video_end=index.end)


def _wanted(name: str, metadata: FrameTimes, indices: np.ndarray | list[int] | Sampler) -> np.ndarray:
    """Returns indices within the span, and notes them in its metadata."""
    indices = np.asarray(indices(metadata) if callable(indices) else indices, dtype=np.int64).ravel()
    low, high, frames = indices.min(initial=0), indices.max(initial=0), metadata.total_num_frames
    if indices.size == 0 or low < 0 or high >= frames:
        raise ValueError(f"The video {name} has {frames} frames in this span, not the indices from {low} to {high}.")
    metadata.frames_indices = indices.tolist()
    return indices


def _frames_in_memory(
    video: np.ndarray | torch.Tensor | list,
    indices: np.ndarray | list[int] | Sampler,
    start: float | None,
    end: float | None,
    transform: Transform | None,
) -> tuple[torch.Tensor, FrameTimes]:
    if start is not None or end is not None:
        raise VideoDecodingError(NAME, "frames have no time for start and end; cut the frames instead")
    metadata = FrameTimes(count_frames(video))
    frames = pick_frames(video, _wanted(NAME, metadata, indices))
    if transform is not None:
        frames = torch.cat([transform(few) for few in frames.split(_together(*frames.shape[-2:]))])
    return frames, metadata


def _together(height: int, width: int) -> int:
    """Returns how many frames of a size are transformed at once."""
    return max(1, BYTES_AT_FULL_SIZE // (3 * height * width))


def _collect(frames: Iterator[np.ndarray], count: int, index: FrameIndex, transform: Transform | None) -> torch.Tensor:
    """Collects `count` frames `(height, width, 3)` as `(count, 3, height, width)`; a few at a time are transformed."""
    together = count if transform is None else min(count, _together(index.height, index.width))
    shape = turned(np.empty((index.height, index.width, 3), dtype=bool), index.display_matrix).shape
    collected = None
    for first in range(0, count, together):
        few = islice((turned(frame, index.display_matrix) for frame in frames), together)
        few = np.fromiter(few, np.dtype((np.uint8, shape)), min(together, count - first))
        batch = torch.from_numpy(few).permute(0, 3, 1, 2)  # channels last in memory
        batch = batch if transform is None else transform(batch)
        if len(batch) == count:
            return batch
        if collected is None:
            collected = batch.new_empty((count, *batch.shape[1:]))
        collected[first : first + len(batch)] = batch
    return collected


def turned(frame: np.ndarray, display_matrix: np.ndarray) -> np.ndarray:
    """Turns and mirrors a frame `(height, width, 3)` as it is to be shown."""
    (a, b), (c, d) = display_matrix
    if b:
        frame, a, d = frame.swapaxes(0, 1), c, b
    return frame[:: int(d), :: int(a)]


def _decoder_threads() -> int:
    """Returns a decoder's threads: one in a worker, beside which others decode; else 0, the decoder's choice."""
    return 0 if torch.utils.data.get_worker_info() is None else 1


def _read_torchcodec(
    path: str, index: FrameIndex, unique: np.ndarray, transform: Transform | None, device: str | torch.device | None
) -> torch.Tensor | None:
    """Reads frames at sorted indices by torchcodec; returns `None` if it cannot, or gives other frames."""
    if not len(index.pts) or (index.display_matrix != np.eye(2)).any():
        return None
    try:
        decoders = import_module("torchcodec.decoders")
    except (ImportError, RuntimeError) as error:
        needs = "The video backend torchcodec needs torchcodec and FFmpeg's libraries"
        raise ValueError(f"{needs}; {first_line(error)}") from None
    together = len(unique) if transform is None else _together(index.height, index.width)
    batches = []
    try:
        decoder = decoders.VideoDecoder(
            path, seek_mode="exact", num_ffmpeg_threads=_decoder_threads(), device=device or "cpu"
        )
        for few in np.split(unique, range(together, len(unique), together)):
            frames = decoder.get_frames_at(few.tolist())
            right = index.pts[few] * float(index.tick)
            late = np.abs(frames.pts_seconds.numpy() - right).max() > float(index.tick) / 2
            if late or frames.data.shape[-2:] != (index.height, index.width):
                return None
            batches.append(frames.data if transform is None else transform(frames.data))
    except (RuntimeError, OSError, ValueError, IndexError):
        return None
    return torch.cat(batches)


def _read_pyav(
    name: str, path: str, index: FrameIndex, unique: np.ndarray, transform: Transform | None
) -> tuple[torch.Tensor, bool]:
    """Reads frames by PyAV; returns them, and whether no damage was met."""
    if len(index.pts):
        with suppress(LostFrameError):
            frames = _pixels(name, index, _by_the_index(name, path, index, unique))
            return _collect(frames, len(unique), index, transform), True
    # From the start, by one thread: what a decoder makes of damage depends on what it saw before, and on threads.
    frames = _pixels(name, index, frames_from_the_start(name, path, index, unique))
    return _collect(frames, len(unique), index, transform), not len(index.pts)


def _pixels(name: str, index: FrameIndex, frames: Iterator[VideoFrame]) -> Iterator[np.ndarray]:
    """Converts frames to `(height, width, 3)`, RGB, all at the size of the first."""
    # One for all frames of a read, because making one costs as much as ten small frames; the one that PyAV shares
    # has threads, which a forked worker would wait for in vain.
    reformatter = VideoReformatter()
    with explaining(name):
        for frame in frames:
            yield reformatter.reformat(frame, index.width, index.height, "rgb24", threads=1).to_ndarray()


def _position(index: FrameIndex, frame: VideoFrame, reached: int) -> int | None:
    """Finds a decoded frame in the index after the one that was reached; returns `None` if it is not shown."""
    if frame.pts is None:
        return None
    position = max(bisect_left(index.pts, frame.pts), reached + 1)  # two frames may have the same time
    return position if position < len(index.pts) and index.pts[position] == frame.pts else None


def _by_the_index(name: str, path: str, index: FrameIndex, unique: np.ndarray) -> Iterator[VideoFrame]:
    """Decodes frames at sorted indices, each from the key frame before it or from the frame before."""
    entry = index.entry[unique]
    keys = np.searchsorted(index.pts, index.entries[entry, 0])  # where each frame's key frame is
    far = (keys[1:] > unique[:-1] + SEEK_OVER) & (entry[1:] > 0)
    with open_video(name, path, _decoder_threads(), noticing=True) as (container, stream):
        for near in np.split(unique, np.flatnonzero(far) + 1):
            yield from _from_one_key_frame(container, stream, index, near)


def _from_one_key_frame(
    container: InputContainer, stream: VideoStream, index: FrameIndex, near: np.ndarray
) -> Iterator[VideoFrame]:
    """Decodes frames at sorted indices, all from the key frame before the first."""
    entry = int(index.entry[near[0]])
    packets = _from_key_frame(container, stream, index, entry) if entry else read_packets(container, stream)
    spares = stream.codec_context.codec.canonical_name in ("h264", "hevc")
    if spares:
        packets = _spared(stream, packets, set(index.pts[near].tolist()))
    frames, reached = decode_packets(stream, packets), -1
    for number in near.tolist():
        key = index.entries[index.entry[number], 0]
        while reached < number:
            frame = next(frames, None)
            if frame is None or frame.pts is None or (frame.is_corrupt and frame.pts >= key):
                raise LostFrameError
            if frame.pts == key and index.entry[number] > 0 and not frame.key_frame:
                raise LostFrameError  # it was called a key frame, but is none
            position = _position(index, frame, reached)
            reached = reached if position is None else position
        if reached > number:
            raise LostFrameError
        # What the wanted pictures were made of may be shown after them.
        if spares and number == near[-1] and any(later is None or later.is_corrupt for later in frames):
            raise LostFrameError
        yield frame


def _spared(stream: VideoStream, packets: Iterator[Packet], wanted: set[int]) -> Iterator[Packet]:
    """
    Yields packets of H.264 or HEVC up to the last wanted one, and an empty one, after which the decoder gives all that
    it holds. It is told to leave out pictures that are not wanted and that no other refers to. The second field of a
    wanted picture may be a packet of its own.
    """
    needed = False
    for packet in packets:
        second_field, needed = needed, packet.pts in wanted
        if not (wanted or second_field):
            packet = Packet()
        stream.codec_context.skip_frame = "DEFAULT" if needed or second_field else "NONREF"
        wanted.discard(packet.pts)
        yield packet
        if not packet.size:
            return


def _from_key_frame(container: InputContainer, stream: VideoStream, index: FrameIndex, entry: int) -> Iterator[Packet]:
    """Reads packets from a key frame on. Seeking may end before it, and in program streams of MPEG after it."""
    pts = index.entries[entry, 0]
    for place in dict.fromkeys((entry, entry - 1, 0)):
        container.seek(int(index.entries[place, 1]), stream=stream)
        packets = read_packets(container, stream)
        for packet in packets:
            if packet.is_keyframe and packet.pts == pts:
                yield packet
                yield from packets
                return
            if packet.is_keyframe and packet.pts is not None and packet.pts > pts:
                break
    raise LostFrameError


def frames_from_the_start(name: str, path: str, index: FrameIndex, unique: np.ndarray) -> Iterator[VideoFrame]:
    r"""
    Decodes frames of a file from its start by one thread: the same each time, however damaged the file is.

    Args:
        name (`str`): What errors call the video.
        path (`str`): The file.
        index ([`FrameIndex`]): Its index.
        unique (`np.ndarray`): Indices of frames, sorted. A frame that is lost leaves the one before on the screen.

    Returns:
        `Iterator[VideoFrame]`: the frames, not yet turned.

    Raises:
        [`VideoDecodingError`]: If more than half of the frames asked for are lost.
    """
    position, shown, frame, lost = -1, None, None, 0
    with open_video(name, path, threads=1) as (container, stream):
        placed = _placed(index, decode_packets(stream, read_packets(container, stream)))
        for number in unique.tolist():
            while position < number:
                shown = frame
                position, frame = next(placed, (len(index.times), None))
            lost += position > number
            if lost > len(unique) / 2 or (shown is None and frame is None):
                raise VideoDecodingError(name, "it is damaged: most of the frames asked for cannot be decoded")
            yield frame if position == number else shown or frame


def _placed(index: FrameIndex, frames: Iterator[VideoFrame | None]) -> Iterator[tuple[int, VideoFrame]]:
    """Yields decoded frames with their places in the index."""
    reached = -1
    for frame in frames:
        if frame is not None:
            position = _position(index, frame, reached) if len(index.pts) else reached + 1
            if position is not None:
                reached = position
                yield position, frame
