"""The frames of a video file that a player shows, with their times: found by reading packets, without decoding."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .video_source import VideoDecodingError


MAX_PIXELS = 1 << 27  # of a frame; 8K has a quarter of it
LARGE_PIXELS = 1 << 24  # of a frame, beyond which few threads decode, each of which holds one
MAX_PACKETS = 1 << 23  # 38 hours at 60 frames a second
MAX_BYTES = 8  # read in packets, for each byte of the file: more is a table that points again and again to the same
CACHED_FRAMES = 1 << 21  # frames of all indices that a process remembers
# Containers that give each frame its time. Others leave times out or guess them: their head is decoded for comparison.
TIMED_CONTAINERS = ("mov,mp4", "matroska", "flv")
COMPARED_FRAMES = 32
# What decord reads as a player shows it where pictures are coded in closed groups (tried, frame by frame).
PLAIN_CONTAINERS = ("mov,mp4", "matroska")
PLAIN_CODECS = ("h264", "hevc", "mpeg4", "vp8", "vp9", "mjpeg")

Packets = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class FrameIndex:
    r"""
    The shown frames of a video: without those that an edit list discards, and those whose references are cut away.

    Args:
        times (`np.ndarray` of shape `(frames,)`): When each frame is shown, in seconds from the first.
        duration (`float`): Seconds from the first frame to the end of the last.
        fps (`float`): Frames a second on average.
        tick (`Fraction`): Seconds of the unit that the file counts time in.
        height (`int`), width (`int`): Pixels of the first frame, before it is turned.
        display_matrix (`np.ndarray` of shape `(2, 2)`): How frames are turned and mirrored to be shown.
        pts (`np.ndarray` of shape `(frames,)`, *optional*):
            Presentation times in ticks, by which a decoder's frames are told apart; `None` where packets do not tell
            them, so that frames have to be counted from the start.
        entry (`np.ndarray` of shape `(frames,)`): Row of `entries` from which each frame is decoded.
        entries (`np.ndarray` of shape `(entries, 2)`): Presentation and decoding time of key frames; 0 is the start.
        plain (`bool`): Whether every decoder gives these frames.
    """

    times: np.ndarray
    duration: float
    fps: float
    tick: Fraction
    height: int
    width: int
    display_matrix: np.ndarray
    pts: np.ndarray | None
    entry: np.ndarray
    entries: np.ndarray
    plain: bool


_remembered: dict[tuple, FrameIndex] = {}


def frame_index(name: str, path: str) -> FrameIndex:
    r"""
    The index of a video file; a process remembers those of the last files.

    Args:
        name (`str`): What errors call the video.
        path (`str`): The file.

    Returns:
        [`FrameIndex`]

    Raises:
        [`VideoDecodingError`]: If it is no video, has no picture that can be decoded, or its tables are absurd.
    """
    status = os.stat(path)
    key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    index = _remembered.pop(key, None) or _make_index(name, path, status.st_size)
    _remembered[key] = index
    while len(_remembered) > 1 and sum(len(each.times) for each in _remembered.values()) > CACHED_FRAMES:
        del _remembered[next(iter(_remembered))]
    return index


@contextmanager
def open_video(name: str, path: str, threads: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its video stream, decoded by so many threads (0: the decoder chooses), with one kind of error."""
    try:
        with av.open(path, metadata_errors="ignore") as container:
            streams = container.streams.video
            if not streams:
                raise VideoDecodingError(name, "it has no video stream")
            # A cover picture is a stream too.
            stream = next((s for s in streams if not s.disposition & s.disposition.attached_pic), streams[0])
            if stream.codec_context is None:
                raise VideoDecodingError(name, "there is no decoder for its codec")
            if stream.width * stream.height > MAX_PIXELS:
                raise VideoDecodingError(name, f"its frames of {stream.width} x {stream.height} pixels are too large")
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            if not threads and stream.width * stream.height > LARGE_PIXELS:
                threads = 2
            stream.thread_type, stream.thread_count = ("SLICE", 1) if threads == 1 else ("AUTO", threads)
            yield container, stream
    except av.FFmpegError as error:
        raise VideoDecodingError(name, f"it is damaged or no video ({error.strerror})") from None


def read_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets of a stream, and an empty one at the end."""
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:
            pass  # PyAV's answer to a packet of another stream, which began on the way


def decode_packets(stream: VideoStream, packets: Iterator[Packet]) -> Iterator[VideoFrame | None]:
    """Frames in the order of presentation, `None` where a packet is damaged: players go on behind it."""
    packet = True
    while packet is not None:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            yield None
            packet = None  # the rest cannot be read
        if packet is not None:
            try:
                yield from stream.decode(packet)
            except av.FFmpegError:
                yield None


def _make_index(name: str, path: str, size: int) -> FrameIndex:
    with open_video(name, path, threads=1) as (container, stream):
        packets, first, head, whole = _read_packets(name, container, stream, size)
        if first is None:
            raise VideoDecodingError(name, "it is damaged or no video (no frame of it can be decoded)")
        shown = _shown_packets(packets, head) if whole else None
        # An AVI has no presentation times: frames that are coded in another order than shown must be counted.
        if shown is None or (container.format.name == "avi" and stream.codec_context.has_b_frames):
            return _count_frames(name, path, first)
        return _index_packets(name, container, stream, packets, shown, first)


def _read_packets(
    name: str, container: InputContainer, stream: VideoStream, size: int
) -> tuple[Packets, VideoFrame | None, list[int | None], bool]:
    """All packets in decoding order, the first frame, the times of the first, and whether packets tell all frames."""
    columns = {column: [] for column in ("pts", "dts", "duration", "key", "hidden")}
    first, head, whole, read = None, [], True, 0
    compared = 1 if container.format.name.startswith(TIMED_CONTAINERS) else COMPARED_FRAMES
    hides = {"vp8": _is_hidden_vp8, "vp9": _is_hidden_vp9}.get(stream.codec_context.codec.canonical_name)
    packets = read_packets(container, stream)
    for count in range(MAX_PACKETS + 1):
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.FFmpegError:
            whole = False
            break
        read += packet.size
        if count == MAX_PACKETS or read > MAX_BYTES * size + (1 << 20):
            raise VideoDecodingError(name, "it is damaged: its tables tell of more frames than the file can hold")
        # The head is done with a frame that does not need what came before the first packet.
        if len(head) < compared or (head[-1] or 0) < (columns["pts"][0] or 0):
            try:
                for frame in packet.decode():
                    first = first or frame
                    head.append(frame.pts)
            except av.FFmpegError:
                whole = False
        if packet.size:
            whole = whole and packet.pts is not None and not packet.is_corrupt
            columns["pts"].append(packet.pts)
            columns["dts"].append(packet.pts if packet.dts is None else packet.dts)
            columns["duration"].append(packet.duration or 0)
            columns["key"].append(packet.is_keyframe)
            columns["hidden"].append(packet.is_discard or (hides is not None and hides(memoryview(packet))))
    whole = whole and bool(columns["pts"])
    return {column: np.array(values) for column, values in columns.items()} if whole else {}, first, head, whole


def _is_hidden_vp8(packet: memoryview) -> bool:
    """Whether a packet is a reference alone, by the bit `show_frame`."""
    return not packet[0] & 0x10


def _is_hidden_vp9(packet: memoryview) -> bool:
    """The same of VP9, whose packet of several frames ends with a marker and shows its last."""
    return packet[-1] & 0xE0 != 0xC0 and not packet[0] & 0x0A


def _shown_packets(packets: Packets, head: list[int | None]) -> np.ndarray | None:
    """Positions of the packets whose frames are shown, in the order of presentation; `None` if they do not tell it."""
    pts = packets["pts"]
    shown = np.flatnonzero(~packets["hidden"])
    shown = shown[np.argsort(pts[shown], kind="stable")]
    # Pictures before the first key frame may need what was cut away: then the decoder leaves them out.
    shown = shown[(pts[shown] >= pts[0]) | np.isin(pts[shown], [time for time in head if time is not None])]
    return shown if pts[shown[: len(head)]].tolist() == head else None


def _index_packets(
    name: str,
    container: InputContainer,
    stream: VideoStream,
    packets: Packets,
    shown: np.ndarray,
    first: VideoFrame,
) -> FrameIndex:
    pts, keys = packets["pts"], np.flatnonzero(packets["key"])
    ticks = pts[shown]
    if int(ticks[-1]) - int(ticks[0]) >= 1 << 52:
        raise VideoDecodingError(name, "it is damaged: the times of its frames are absurd")
    times = (ticks - ticks[0]) * stream.time_base.numerator / stream.time_base.denominator
    group = np.cumsum(packets["key"])[shown] - 1  # the last key frame in decoding order
    # A picture shown before its key frame may need the group before, too.
    leading = (group >= 0) & (ticks < pts[keys[group]]) if len(keys) else np.zeros(len(shown), dtype=bool)
    entry = np.maximum(group - leading, 0)
    if len(keys):
        entry = np.where(ticks < pts[keys[entry]], 0, entry)
    entries = np.stack([pts[keys], packets["dts"][keys]], axis=1) if len(keys) else np.zeros((1, 2), dtype=np.int64)
    duration = float(times[-1]) + _last_duration(
        times, float(packets["duration"][shown[-1]] * stream.time_base), stream
    )
    matrix = _display_matrix(first)
    return FrameIndex(
        times,
        duration,
        _average_rate(len(times), duration, stream),
        stream.time_base,
        first.height,
        first.width,
        matrix,
        ticks,
        entry,
        entries,
        plain=container.format.name.startswith(PLAIN_CONTAINERS)
        and stream.codec_context.codec.canonical_name in PLAIN_CODECS
        and stream.frames in (0, len(pts))  # decord aborts the process if the header tells of absurdly many
        and len(shown) == len(pts)
        and not leading.any()
        and bool(packets["key"][0])
        and (matrix == np.eye(2)).all()
        and bool((np.diff(ticks) > 0).all())
        and duration < 86400,
    )


def _count_frames(name: str, path: str, first: VideoFrame) -> FrameIndex:
    """The index of a file whose packets do not tell its frames: it is decoded once."""
    with open_video(name, path, threads=1) as (container, stream):
        ticks = [frame.pts for frame in decode_packets(stream, read_packets(container, stream)) if frame is not None]
        rate, tick = stream.average_rate or 25, stream.time_base
        times = np.arange(len(ticks)) / float(rate)
        if None not in ticks and (len(ticks) == 1 or 0 < min(np.diff(ticks)) <= max(np.diff(ticks)) < 1 << 40):
            times = (np.array(ticks) - ticks[0]) * tick.numerator / tick.denominator
        if not ticks:
            raise VideoDecodingError(name, "it is damaged or no video (no frame of it can be decoded)")
        duration = float(times[-1]) + _last_duration(times, 0.0, stream)
        fps = _average_rate(len(times), duration, stream)
    nothing = np.zeros(len(ticks), dtype=np.int64)
    start = np.zeros((1, 2), dtype=np.int64)
    matrix = _display_matrix(first)
    return FrameIndex(times, duration, fps, tick, first.height, first.width, matrix, None, nothing, start, plain=False)


def _last_duration(times: np.ndarray, declared: float, stream: VideoStream) -> float:
    """How long the last frame is shown: as declared, or as long as others."""
    if 0 < declared < 86400:
        return declared
    return float(np.median(np.diff(times))) if len(times) > 1 else 1 / float(stream.average_rate or 25)


def _average_rate(frames: int, duration: float, stream: VideoStream) -> float:
    """Frames a second; the declared rate where the frames bear it out, which is not rounded to ticks."""
    measured = frames / duration
    declared = float(stream.average_rate or measured)
    return declared if abs(declared * duration - frames) <= max(0.5, 0.001 * frames) else measured


def _display_matrix(frame: VideoFrame) -> np.ndarray:
    """How a frame is shown, as -1, 0 and 1: `x' = m00 x + m10 y`, `y' = m01 x + m11 y`."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return np.eye(2, dtype=int)
    matrix = np.frombuffer(bytes(side_data), dtype=np.int32).reshape(3, 3)[:2, :2].astype(float)
    upright = abs(matrix[0, 0]) + abs(matrix[1, 1]) >= abs(matrix[0, 1]) + abs(matrix[1, 0])
    return np.where(np.eye(2, dtype=bool) == upright, np.where(matrix < 0, -1, 1), 0)


__all__ = ["FrameIndex", "decode_packets", "frame_index", "open_video", "read_packets"]
