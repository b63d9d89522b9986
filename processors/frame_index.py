"""The frames of a video file that a player shows, with their times: found by reading packets, without decoding."""

import errno
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
COMPOSING_CODECS = ("apng", "gif")  # their pictures are drawn over earlier ones, whatever is marked as a key frame

# Containers that hold their own frames. Others are lists of files and addresses, which a video must not have opened,
# text that is drawn, or need a library that follows links.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,asf,asf_o,ogg,gif,apng,rm,mxf,nut,dv,wtv,nsv,nuv,gxf,lxf,swf,dhav,ivf,"
    "av1,obu,h261,h263,h264,hevc,vvc,m4v,mpegvideo,mjpeg,mjpeg_2000,mpjpeg,vc1,vc1test,dirac,yuv4mpegpipe,bink,smk,"
    "flic,roq,film_cpk,pva,ty,bmp_pipe,jpeg_pipe,png_pipe,ppm_pipe,tiff_pipe,webp_pipe,jpegxl_anim,webp"
)
# Before version 19, PyAV refuses files whose metadata are not UTF-8 unless it is told to ignore that.
LENIENT = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}

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
    # If PyAV's log is on, only the calling thread may decode: another thread with something to log waits for Python's
    # lock, and whoever closes the decoder holds that lock and waits for the thread.
    threads = threads if av.logging.get_level() is None else 1
    try:
        with av.open(
            path, options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS}, **LENIENT
        ) as container:
            streams = container.streams.video
            if not streams:
                raise VideoDecodingError(name, "it has no video stream")
            stream = next((s for s in streams if not s.disposition & s.disposition.attached_pic), None)
            if stream is None:
                raise VideoDecodingError(name, "it has no video stream, but a cover picture")
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
        if error.errno == errno.EINVAL:
            raise VideoDecodingError(name, "it is damaged or of a kind that is no video") from None
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
        # An AVI tells when frames are shown, but not which: if they are coded in another order, they must be counted.
        if shown is None or (container.format.name == "avi" and stream.codec_context.has_b_frames):
            return _count_frames(name, path, first, packets.get("pts"))
        return _index_packets(name, stream, packets, shown, first)


def _read_packets(
    name: str, container: InputContainer, stream: VideoStream, size: int
) -> tuple[Packets, VideoFrame | None, list[int | None], bool]:
    """All packets in decoding order, the first frame, the times of the first, and whether packets tell all frames."""
    columns = {column: [] for column in ("pts", "dts", "duration", "key", "hidden")}
    first, head, whole, read = None, [], True, 0
    first_key = None  # its time; what comes before may be the end of something that is cut away
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
        if first_key is None and packet.is_keyframe and packet.size:
            first_key = packet.pts or 0
        # The head is done with a frame that does not need what came before the first key frame.
        if len(head) < compared or first_key is None or (head[-1] or 0) < first_key:
            try:
                for frame in packet.decode():
                    first = first or frame
                    head.append(frame.pts)
            except av.FFmpegError:
                whole = whole and first_key is None
        if packet.size:
            whole = whole and packet.pts is not None and (first_key is None or not packet.is_corrupt)
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
    first_key = pts[np.argmax(packets["key"])]
    shown = shown[(pts[shown] >= first_key) | np.isin(pts[shown], [time for time in head if time is not None])]
    told = (np.diff(pts[shown]) > 0).all() and pts[shown[: len(head)]].tolist() == head
    return shown if told else None


def _index_packets(
    name: str, stream: VideoStream, packets: Packets, shown: np.ndarray, first: VideoFrame
) -> FrameIndex:
    if stream.codec_context.codec.canonical_name in COMPOSING_CODECS:
        packets["key"][1:] = False
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
    return FrameIndex(
        times,
        duration,
        _average_rate(len(times), duration, stream),
        stream.time_base,
        first.height,
        first.width,
        _display_matrix(first),
        ticks,
        entry,
        entries,
    )


def _count_frames(name: str, path: str, first: VideoFrame, packet_times: np.ndarray | None) -> FrameIndex:
    """The index of a file whose packets do not tell its frames: it is decoded once."""
    with open_video(name, path, threads=1) as (container, stream):
        ticks = [frame.pts for frame in decode_packets(stream, read_packets(container, stream)) if frame is not None]
        if not ticks:
            raise VideoDecodingError(name, "it is damaged or no video (no frame of it can be decoded)")
        if container.format.name == "avi" and packet_times is not None and len(packet_times) == len(ticks):
            ticks = np.sort(packet_times).tolist()
        tick = stream.time_base
        times = np.arange(len(ticks)) / float(stream.average_rate or 25)
        steps = [0] if None in ticks else np.diff(ticks)
        if len(steps) and min(steps) >= 0 and 0 < max(steps) < 1 << 40:
            times = (np.array(ticks) - ticks[0]) * tick.numerator / tick.denominator
        duration = float(times[-1]) + _last_duration(times, 0.0, stream)
        fps = _average_rate(len(times), duration, stream)
    nothing = np.zeros(len(ticks), dtype=np.int64)
    start = np.zeros((1, 2), dtype=np.int64)
    matrix = _display_matrix(first)
    return FrameIndex(times, duration, fps, tick, first.height, first.width, matrix, None, nothing, start)


def _last_duration(times: np.ndarray, declared: float, stream: VideoStream) -> float:
    """How long the last frame is shown: as declared, or as long as others."""
    if 0 < declared < 86400:
        return declared
    steps = np.diff(times)
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else 1 / float(stream.average_rate or 25)


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
