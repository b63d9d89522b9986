"""The frames of a video file that a player shows, with their times: found by reading packets, without decoding."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .frame_index_store import index_file, read_index, write_index
from .video_error import VideoDecodingError, first_line


MAX_PIXELS = 8192 * 4320  # of a frame: 8K, as cinemas show it
LARGE_PIXELS = 1 << 24  # of a frame, beyond which few threads decode, each of which holds one
MAX_PACKETS = 1 << 23  # 38 hours at 60 frames per second
MAX_BYTES = 8  # in packets, per byte of the file; beyond it, a table points to the same bytes again and again
CACHED_FRAMES = 1 << 21  # frames of all indices that a process remembers
STORED_BYTES = 1 << 22  # of a file: reading a smaller one costs little
# Containers that have the time of each frame. Others leave times out or guess them, so their head is decoded and
# compared.
TIMED_CONTAINERS = ("mov,mp4", "matroska", "flv")
COMPARED_FRAMES = 32
# Decoded to see whether they come in the order of their times, where that is in doubt.
CHECKED_FRAMES, CHECKED_PLACES = 250, 8
JUMP, BACK = 10.0, 0.1  # seconds; a clock that jumps further forwards or backwards is a new one for ffmpeg
WIDEST_PIXEL = 16  # times as wide as high, or as high as wide; a file that declares more is wrong (decision)
# Codecs that are decoded from the start, because their key frames are none: pictures of the first two are drawn over
# earlier ones, and the decoder of the third never notices damage, which lasts beyond a key frame.
FROM_THE_START = ("apng", "gif", "vp8")
# Decoders that notice most damage if they are asked to, at no cost on sound files.
NOTICING = ("hevc", "mjpeg", "mpeg1video", "mpeg2video")

# Containers that hold their own frames. Others are lists of files and addresses, which a video must not have opened,
# text that is drawn, or need a library that follows links.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,asf,asf_o,ogg,gif,apng,rm,mxf,nut,dv,wtv,nsv,nuv,gxf,lxf,swf,dhav,ivf,"
    "av1,obu,h261,h263,h264,hevc,vvc,m4v,mpegvideo,mjpeg,mjpeg_2000,mpjpeg,vc1,vc1test,dirac,yuv4mpegpipe,bink,smk,"
    "flic,roq,film_cpk,pva,ty,bmp_pipe,jpeg_pipe,png_pipe,ppm_pipe,tiff_pipe,webp_pipe,jpegxl_anim,webp"
)
# Before version 19, PyAV refuses files whose metadata are not UTF-8 unless it is told to ignore that.
LENIENT = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}

PACKET = np.dtype([("pts", "i8"), ("dts", "i8"), ("duration", "i8"), ("key", "?"), ("hidden", "?")])


@dataclass(frozen=True, eq=False)
class FrameIndex:
    r"""
    Lists the frames of a video that are shown: not those that an edit list discards or whose references are cut away.

    Args:
        times (`np.ndarray` of shape `(frames,)`):
            When each frame is shown on the player's clock, in seconds from the first picture or sound.
        duration (`float`): Seconds from the first frame to the end of the last.
        end (`float`): When the video ends on the player's clock; its sound may outlast the last frame.
        fps (`float`): Frames per second on average.
        tick (`Fraction`): Seconds of the unit that the file counts time in.
        height (`int`), width (`int`): Pixels of the first frame as it is shown, before it is turned.
        display_matrix (`np.ndarray` of shape `(2, 2)`): How frames are turned and mirrored to be shown.
        pts (`np.ndarray` of shape `(frames,)`):
            Presentation times in ticks, by which a decoder's frames are told apart; empty where packets do not tell
            them, so that frames have to be counted from the start.
        entry (`np.ndarray` of shape `(frames,)`): Row of `entries` from which each frame is decoded.
        entries (`np.ndarray` of shape `(entries, 2)`):
            Presentation time of key frames, and the time to seek to for each; 0 is the start.
    """

    times: np.ndarray
    duration: float
    end: float
    fps: float
    tick: Fraction
    height: int
    width: int
    display_matrix: np.ndarray
    pts: np.ndarray
    entry: np.ndarray
    entries: np.ndarray


# Threads share it. Each step is atomic, so that it needs no lock, which a forked worker might wait for in vain.
_remembered: dict[tuple, FrameIndex] = {}


def frame_index(name: str, path: str) -> FrameIndex:
    r"""
    Returns the index of a video file. A process remembers indices until they are large together, and those of large
    files are kept on disk, see [`index_file`].

    Args:
        name (`str`): What errors call the video.
        path (`str`): The file.

    Raises:
        [`VideoDecodingError`]: If it is no video, has no picture that can be decoded, or its tables are absurd.
    """
    status = os.stat(path)
    key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    index = _remembered.get(key)
    if index is None:
        index = _stored_index(name, path, status)
        if sum(len(each.times) for each in list(_remembered.values())) > CACHED_FRAMES:
            _remembered.clear()
        _remembered[key] = index
    return index


def _stored_index(name: str, path: str, status: os.stat_result) -> FrameIndex:
    """Reads an index from disk, or makes it; it is kept there if a large file was read for it, or all was decoded."""
    file = index_file(path, status)
    with suppress(Exception):  # there is none, or it is damaged, or another program's
        fields = read_index(file)
        return FrameIndex(**fields | {"tick": Fraction(*fields["tick"].tolist())})
    index = _make_index(name, path, status.st_size)
    if file is not None and (status.st_size >= STORED_BYTES or not len(index.pts)):
        write_index(file, vars(index) | {"tick": index.tick.as_integer_ratio()})
    return index


class LostFrameError(Exception):
    """Raised when an expected frame is missing or damaged."""


@contextmanager
def explaining(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises for a file into that file's [`VideoDecodingError`]."""
    try:
        yield
    except av.FFmpegError as error:
        raise VideoDecodingError(name, f"it is damaged or no video ({error.strerror})") from None
    except (VideoDecodingError, LostFrameError, MemoryError):
        raise
    except Exception as error:  # such as side data that PyAV does not know
        raise VideoDecodingError(name, f"its decoder raises {type(error).__name__} ({first_line(error)})") from None


@contextmanager
def open_video(
    name: str, path: str, threads: int, noticing: bool = False
) -> Iterator[tuple[InputContainer, VideoStream]]:
    r"""
    Opens a file for decoding.

    Args:
        name (`str`): What errors call the video.
        path (`str`): The file.
        threads (`int`): Threads of the decoder; 0 lets it choose.
        noticing (`bool`, *optional*, defaults to `False`):
            Whether decoders that can do so raise for damaged pictures instead of making something up.

    Yields:
        `tuple[InputContainer, VideoStream]`: the file and its best video stream.
    """
    # If PyAV's log is on, only the calling thread may decode: another thread with something to log waits for Python's
    # lock, and whoever closes the decoder holds that lock and waits for the thread.
    threads = threads if av.logging.get_level() is None else 1
    limits = {"max_pixels": str(MAX_PIXELS)}
    options = limits | {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    with explaining(name), av.open(path, options=options, **LENIENT) as container:
        stream = _best_stream(name, container)
        codec, pixels = stream.codec_context, stream.width * stream.height
        if pixels > MAX_PIXELS:
            raise VideoDecodingError(name, f"its frames of {stream.width} x {stream.height} pixels are too large")
        noticing = noticing and codec.codec.canonical_name in NOTICING
        codec.options = limits | ({"err_detect": "explode"} if noticing else {})
        if codec.codec.canonical_name == "vp8":
            threads = 1  # what it makes of damage depends on how many there are
        elif not threads and pixels > LARGE_PIXELS:
            threads = 2
        stream.thread_type, stream.thread_count = ("SLICE", 1) if threads == 1 else ("AUTO", threads)
        yield container, stream


def _best_stream(name: str, container: InputContainer) -> VideoStream:
    """Returns the video stream that players show: the best one (not the first), and no cover picture."""
    streams = container.streams.video
    if not streams:
        raise VideoDecodingError(name, "it has no video stream")
    best = container.streams.best("video")
    for stream in [best or streams[0], *streams]:
        if not stream.disposition & stream.disposition.attached_pic:
            break
    else:
        raise VideoDecodingError(name, "it has no video stream, but a cover picture")
    if stream.codec_context is None:
        raise VideoDecodingError(name, "there is no decoder for its codec")
    return stream


def read_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Reads the packets of a stream; the last one is empty."""
    while True:
        with suppress(IndexError):  # PyAV's answer to a packet of another stream, which began on the way
            yield from container.demux(stream)
            return


def decode_packets(stream: VideoStream, packets: Iterator[Packet]) -> Iterator[VideoFrame | None]:
    """Decodes frames in the order of presentation; gives `None` for a damaged packet and goes on, as players do."""
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:  # the rest cannot be read
            yield None
            return
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            yield None


def _make_index(name: str, path: str, size: int) -> FrameIndex:
    with open_video(name, path, threads=1) as (container, stream):
        packets, first, head, whole = _read_packets(name, container, stream, size)
        if first is None:
            what = "an animated WebP is not supported" if _is_animated_webp(path) else "it is damaged or no video"
            raise VideoDecodingError(name, f"{what} (no frame of it can be decoded)")
        shift, goes_back = _clock_shift(container, stream, packets) if len(packets) else (0, False)
        shown = _shown_packets(packets, head) if whole and len(packets) and not goes_back else None
        # An AVI tells when frames are shown, but not which, and so do other containers that got their times from one:
        # if pictures are coded in another order, they must be counted.
        if shown is not None and stream.codec_context.has_b_frames:
            is_avi, rises = container.format.name == "avi", (np.diff(packets["pts"]) > 0).all()
            if is_avi or (rises and not _comes_in_order(name, path, packets)):
                shown = None
        if shown is None:
            ticks = _count_frames(name, path, np.sort((packets["pts"] + shift)[~packets["hidden"]]))
            last, pts = 0, np.zeros(0, dtype=np.int64)
            entry, entries = np.zeros(len(ticks), dtype=np.int64), np.zeros((1, 2), dtype=np.int64)
        else:
            ticks = packets["pts"][shown] + shift[shown]
            last, pts = int(packets["duration"][shown[-1]]), packets["pts"][shown]
            entry, entries = _entries(container, stream, packets, shown)
        tick = stream.time_base
        if int(ticks[-1]) - int(ticks[0]) >= 1 << 52:
            raise VideoDecodingError(name, "it is damaged: the times of its frames are absurd")
        times = (ticks - ticks[0]) * tick.numerator / tick.denominator
        height, width = _shown_size(name, stream, first)
        duration = float(times[-1]) + _last_duration(times, float(last * tick), stream)
        fps, matrix = _average_rate(len(times), duration, stream), _display_matrix(first)
        start, end = _with_sound(container, float(int(ticks[0]) * tick), new_clock=np.any(shift))
        end = max(start + duration, end)
        return FrameIndex(times + start, duration, end, fps, tick, height, width, matrix, pts, entry, entries)


def _read_packets(
    name: str, container: InputContainer, stream: VideoStream, size: int
) -> tuple[np.ndarray, VideoFrame | None, list[int | None], bool]:
    """
    Reads all packets in decoding order. Returns them as `PACKET` (none if a time is missing), the first frame, the
    times of the first frames, and whether the file could be read to its end without damage.
    """
    rows, first, head, whole = [], None, [], True
    first_key = None  # its time; what comes before may be the end of something that is cut away
    hides = {"vp8": _is_hidden_vp8, "vp9": _is_hidden_vp9}.get(stream.codec_context.codec.canonical_name)

    def noted() -> Iterator[Packet]:
        nonlocal first_key, whole
        read = 0
        try:
            for packet in read_packets(container, stream):
                read += packet.size
                if len(rows) == MAX_PACKETS or read > MAX_BYTES * size + (1 << 20):
                    raise VideoDecodingError(name, "it is damaged: its tables tell of more frames than it can hold")
                if packet.size:
                    pts, key = packet.pts, packet.is_keyframe
                    first_key = pts or 0 if first_key is None and key else first_key
                    whole = whole and (first_key is None or not packet.is_corrupt)
                    hidden = packet.is_discard or (hides is not None and hides(memoryview(packet)))
                    dts = pts if packet.dts is None else packet.dts
                    rows.append((pts, dts, packet.duration or 0, key, hidden))
                yield packet
        except av.FFmpegError:
            whole = False

    compared = COMPARED_FRAMES
    if container.format.name.startswith(TIMED_CONTAINERS):
        compared = 8 if stream.codec_context.has_b_frames else 1
    packets = noted()
    for frame in decode_packets(stream, packets):
        if frame is None:
            whole = whole and first_key is None
            continue
        first = first or frame
        head.append(frame.pts)
        # The head is done with a frame that does not need what came before the first key frame.
        if len(head) >= compared and first_key is not None and (frame.pts or 0) >= first_key:
            break
    for _ in packets:
        pass
    told = all(row[0] is not None for row in rows)
    return np.array(rows if told else [], dtype=PACKET), first, head, whole


def _is_hidden_vp8(packet: memoryview) -> bool:
    """Says whether the picture of a packet is never shown, by its bit `show_frame`."""
    return not packet[0] & 0x10


def _is_hidden_vp9(packet: memoryview) -> bool:
    """Says the same for VP9; a packet of several frames ends with a marker, and its last frame is shown."""
    return packet[-1] & 0xE0 != 0xC0 and not packet[0] & 0x0A


def _clock_shift(container: InputContainer, stream: VideoStream, packets: np.ndarray) -> tuple[np.ndarray, bool]:
    """
    Returns the ticks that ffmpeg's command line adds to each packet's times `(packets,)` where a stream's clock jumps
    or goes back, and whether it goes back. Only in containers of broadcasts a jump forwards begins a new clock.
    """
    steps = np.diff(packets["dts"])
    if container.format.name.startswith("matroska"):  # has no decoding times: each group begins after the one before
        pts, keys = packets["pts"], np.flatnonzero(packets["key"])
        steps[:] = 0
        if len(keys):
            steps[keys[1:] - 1] = pts[keys[1:]] - np.maximum.reduceat(pts, keys)[:-1]
    seconds = steps * float(stream.time_base)
    back = seconds < -BACK
    broadcast = bool(container.format.flags & Flags.ts_discont.value)
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 0
    gaps = np.where(back | (broadcast & (seconds > JUMP)), steps - usual, 0)
    return -np.concatenate([[0], np.cumsum(gaps)]), bool(back.any())


def _comes_in_order(name: str, path: str, packets: np.ndarray) -> bool:
    """Says whether a decoder gives frames in the order of their times, after each of a few key frames."""
    keys = packets["dts"][packets["key"]]
    keys = keys[np.unique(np.linspace(0, len(keys) - 1, CHECKED_PLACES).astype(int))].tolist() if len(keys) else []
    with open_video(name, path, threads=1) as (container, stream):
        for place, dts in enumerate(keys or [0]):
            if place:
                container.seek(dts, stream=stream)
            frames = decode_packets(stream, read_packets(container, stream))
            few = islice(frames, CHECKED_FRAMES // max(1, len(keys)))
            times = [frame.pts for frame in few if frame is not None]
            if None in times or (np.diff(times) < 0).any():
                return False
    return True


def _shown_packets(packets: np.ndarray, head: list[int | None]) -> np.ndarray | None:
    """Returns the packets whose frames are shown, in the order of presentation; `None` if packets do not tell it."""
    pts = packets["pts"]
    shown = np.flatnonzero(~packets["hidden"])
    shown = shown[np.argsort(pts[shown], kind="stable")]
    # Pictures before the first key frame may need what was cut away: then the decoder leaves them out.
    first_key = pts[np.argmax(packets["key"])]
    shown = shown[(pts[shown] >= first_key) | np.isin(pts[shown], [time for time in head if time is not None])]
    told = (np.diff(pts[shown]) > 0).all() and pts[shown[: len(head)]].tolist() == head
    return shown if told else None


def _entries(
    container: InputContainer, stream: VideoStream, packets: np.ndarray, shown: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the key frame from which each shown frame is decoded; returns `entry` and `entries` of [`FrameIndex`]."""
    if stream.codec_context.codec.canonical_name in FROM_THE_START:
        packets["key"][1:] = False
    pts, keys = packets["pts"], np.flatnonzero(packets["key"])
    if not len(keys):
        return np.zeros(len(shown), dtype=np.int64), np.zeros((1, 2), dtype=np.int64)
    group = np.cumsum(packets["key"])[shown] - 1  # the last key frame in decoding order
    # A picture shown before its key frame may need the group before, too.
    leading = (group >= 0) & (pts[shown] < pts[keys[group]])
    entry = np.maximum(group - leading, 0)
    entry = np.where(pts[shown] < pts[keys[entry]], 0, entry)
    # Where a demuxer seeks by presentation times, a decoding time would lead to the group before.
    by_pts = container.format.flags & Flags.seek_to_pts.value or container.format.name.startswith("matroska")
    return entry, np.stack([pts[keys], (pts if by_pts else packets["dts"])[keys]], axis=1)


def _count_frames(name: str, path: str, told: np.ndarray) -> np.ndarray:
    """
    Decodes a file whose packets do not tell which frame is shown when. Returns when each frame is shown, in ticks: the
    times of the packets `told`, in order, if there are as many; otherwise the decoder's times if they are in order, or
    those of the declared rate.
    """
    with open_video(name, path, threads=1) as (container, stream):
        decoded = [frame.pts for frame in decode_packets(stream, read_packets(container, stream)) if frame is not None]
        for ticks in (told, decoded):
            if len(ticks) == len(decoded) and None not in ticks:
                steps = np.diff(ticks)
                if len(steps) and min(steps) >= 0 and 0 < max(steps) < 1 << 40:
                    return np.array(ticks)
        return (decoded[0] or 0) + np.arange(len(decoded)) / float((stream.average_rate or 25) * stream.time_base)


def _with_sound(container: InputContainer, first: float, new_clock: bool) -> tuple[float, float]:
    """
    Returns when the first frame is shown and when the sound ends on the player's clock, which begins with the first
    picture or sound. Sound before time 0 only fills the decoder and is not heard.
    """
    sounds = [sound for sound in container.streams.audio if sound.start_time is not None]
    if not sounds or new_clock:
        return 0.0, 0.0
    start = max(0.0, first - max(0.0, min(float(sound.start_time * sound.time_base) for sound in sounds)))
    return start, (container.duration or 0) / av.time_base


def _shown_size(name: str, stream: VideoStream, first: VideoFrame) -> tuple[int, int]:
    """Returns height and width at which players show a frame; they stretch one side if pixels are not square."""
    height, width, aspect = first.height, first.width, float(stream.sample_aspect_ratio or 1)
    if 1 < aspect <= WIDEST_PIXEL:
        width = round(width * aspect)
    elif 1 / WIDEST_PIXEL <= aspect < 1:
        height = round(height / aspect)
    if width * height > MAX_PIXELS:
        raise VideoDecodingError(name, f"its frames of {width} x {height} pixels are too large")
    return height, width


def _is_animated_webp(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(64)
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"ANIM" in head


def _last_duration(times: np.ndarray, declared: float, stream: VideoStream) -> float:
    """Returns how long the last frame is shown: as long as declared, or as long as others."""
    if 0 < declared < 86400:
        return declared
    steps = np.diff(times)
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else 1 / float(stream.average_rate or 25)


def _average_rate(frames: int, duration: float, stream: VideoStream) -> float:
    """Returns frames per second: the declared rate, which is not rounded to ticks, if it fits the frames."""
    measured = frames / duration
    declared = float(stream.average_rate or measured)
    return declared if abs(declared * duration - frames) <= max(0.5, 0.001 * frames) else measured


def _display_matrix(frame: VideoFrame) -> np.ndarray:
    """Returns how a frame is turned and mirrored, as -1, 0 and 1: `x' = m00 x + m10 y`, `y' = m01 x + m11 y`."""
    side_data = None
    with suppress(ValueError):  # PyAV does not know another side data of the frame, such as EXIF
        side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        cosine, sine = np.cos(np.radians(frame.rotation)), np.sin(np.radians(frame.rotation))
        matrix = np.array([[cosine, -sine], [sine, cosine]])
    else:
        matrix = np.frombuffer(bytes(side_data), dtype=np.int32).reshape(3, 3)[:2, :2].astype(float)
    upright = abs(matrix[0, 0]) + abs(matrix[1, 1]) >= abs(matrix[0, 1]) + abs(matrix[1, 0])
    return np.where(np.eye(2, dtype=bool) == upright, np.where(matrix < 0, -1, 1), 0)
