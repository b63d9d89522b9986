"""Makes small copies of videos that decode fast, with the same frames at the same times."""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from tqdm import tqdm

from ..data.folder_files import walk_files
from ..processors.frame_index import FrameIndex, frame_index
from ..processors.video_decoding import VIDEO_SUFFIXES, frames_from_the_start, turned
from .separate_processes import in_separate_processes


TIMEOUT = 86400.0  # seconds that a video may take
SILENCE_RATE, SILENCE_FRAME = 16000, 1024  # samples per second, and of a frame


def new_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Returns an even width and height whose shorter side has at most `short_side` pixels."""
    scale = min(1.0, short_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def prepare_video(source: Path, target: Path, short_side: int, group: int, crf: int) -> str | None:
    r"""
    Writes the fast copy of a video.

    Args:
        source (`Path`): The video.
        target (`Path`): Where the copy goes, an mp4 file.
        short_side (`int`): The most pixels of the shorter side.
        group (`int`): Frames from one key frame to the next.
        crf (`int`): H.264's constant rate factor, lower is better.

    Returns:
        `str`, *optional*: why it failed; `None` if the copy is there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    try:
        _write_copy(source, unfinished, short_side, group, crf)
    except Exception as error:  # whatever a decoder or the encoder raises for one file
        unfinished.unlink(missing_ok=True)
        return getattr(error, "reason", " ".join(str(error).split())) or type(error).__name__
    os.replace(unfinished, target)
    return None


def _write_copy(source: Path, unfinished: Path, short_side: int, group: int, crf: int) -> None:
    options = {"crf": str(crf), "preset": "veryfast", "g": str(group), "bf": "0", "tune": "fastdecode"}
    index = frame_index(str(source), str(source))
    # Times in the unit of the file, with the first frame where it was.
    ticks = np.rint(index.times / float(index.tick)).astype(np.int64)
    sound = index.times[0] > 0 or index.end > index.times[0] + index.duration
    if not sound and len(index.pts):
        ticks += max(0, int(index.pts[0]))
    ticks = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))  # no two frames at one time
    rate = Fraction(index.fps).limit_denominator(60000)
    with av.open(str(unfinished), "w", format="mp4") as copy:
        written = copy.add_stream("libx264", rate=max(rate, Fraction(1, 60000)), options=options)
        written.pix_fmt, written.codec_context.thread_count = "yuv420p", 1
        written.codec_context.time_base = index.tick
        durations = [*np.diff(ticks).tolist(), round((index.times[0] + index.duration - index.times[-1]) / index.tick)]
        silence = _silence(copy, index.end) if sound else []
        for number, frame in enumerate(_small_frames(source, index, short_side)):
            if number == 0:
                written.width, written.height = frame.width, frame.height
                codec = written.codec_context
                codec.colorspace, codec.color_range = frame.colorspace, frame.color_range
                copy.mux(silence)
            frame.pts, frame.time_base = int(ticks[number]), index.tick
            _mux(copy, written.encode(frame), durations)
        _mux(copy, written.encode(), durations)


def _small_frames(source: Path, index: FrameIndex, short_side: int) -> Iterator[av.VideoFrame]:
    """Yields the frames of a video, small and turned, as yuv444p in their own colour matrix and range."""
    reformatter = VideoReformatter()
    width, height = new_size(index.width, index.height, short_side)
    for frame in frames_from_the_start(str(source), str(source), index, np.arange(len(index.times))):
        matrix, color_range = _colours(frame)
        colours = {"dst_colorspace": matrix, "dst_color_range": color_range, "threads": 1}
        planes = reformatter.reformat(frame, width, height, "yuv444p", **colours).to_ndarray()  # (3, height, width)
        planes = turned(planes.transpose(1, 2, 0), index.display_matrix).transpose(2, 0, 1)
        small = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv444p")
        small.colorspace, small.color_range = matrix, color_range
        yield small


def _colours(frame: av.VideoFrame) -> tuple[int, int]:
    """Returns FFmpeg's numbers of the colour matrix and range of a frame's copy: its own, or BT.601 for RGB."""
    if frame.format.is_rgb or frame.format.has_palette:
        return Colorspace.ITU601, ColorRange.MPEG
    is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return frame.colorspace, ColorRange.JPEG if is_full else ColorRange.MPEG


def _mux(copy: OutputContainer, packets: list[av.Packet], durations: list[int]) -> None:
    for packet in packets:
        packet.duration = durations.pop(0)
        copy.mux(packet)


def _silence(copy: OutputContainer, end: float) -> list[av.Packet]:
    """Makes the packets of a silent track. A player's clock begins and ends with the sound, so the copy needs one."""
    sound = copy.add_stream("aac", rate=SILENCE_RATE, layout="mono")
    frames = []
    for start in range(0, round(end * SILENCE_RATE), SILENCE_FRAME):
        samples = np.zeros((1, min(SILENCE_FRAME, round(end * SILENCE_RATE) - start)), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SILENCE_RATE, start
        frames.append(frame)
    return [packet for frame in [*frames, None] for packet in sound.encode(frame)]


def prepare_videos(
    source: str | Path,
    target: str | Path,
    short_side: int = 256,
    group: int = 8,
    crf: int = 20,
    workers: int = 2,
    shard: tuple[int, int] = (1, 1),
) -> list[dict[str, str]]:
    r"""
    Copies a folder of videos with its subfolders.

    Args:
        source (`str` or `Path`): The folder.
        target (`str` or `Path`): The new folder; copies get the suffix .mp4.
        short_side (`int`, *optional*, defaults to 256): The most pixels of the shorter side.
        group (`int`, *optional*, defaults to 8): Frames from one key frame to the next.
        crf (`int`, *optional*, defaults to 20): H.264's constant rate factor.
        workers (`int`, *optional*, defaults to 2): Processes.
        shard (`tuple[int, int]`, *optional*, defaults to `(1, 1)`):
            `(i, n)` copies the i-th of n shares of the videos, counted from 1.

    Returns:
        `list[dict[str, str]]`: `video` and `error` of each that failed, also in `failures.jsonl`, which has a name of
        its own for each of several shares.

    Raises:
        `ValueError`: If the folder has no videos, or two of them differ only in their suffix.
    """
    source, target = Path(source), Path(target)
    copies = target.resolve()
    found = sorted(map(Path, walk_files(source, VIDEO_SUFFIXES)))
    videos = [path for path in found if not path.resolve().is_relative_to(copies)]  # no copies of copies
    if not videos:
        raise ValueError(f"The folder {source} has no videos ({', '.join(VIDEO_SUFFIXES)}).")
    targets = {}
    for path in videos:
        copy = target / path.relative_to(source).with_suffix(".mp4")
        if copy in targets:
            raise ValueError(f"{targets[copy]} and {path} would both become {copy}; rename one of them.")
        targets[copy] = path
    number, count = shard
    todo = {path: copy for copy, path in list(targets.items())[number - 1 :: count] if not copy.exists()}
    work = partial(prepare_video, short_side=short_side, group=group, crf=crf)
    results = in_separate_processes(work, todo.items(), workers, TIMEOUT)
    done = sorted(tqdm(results, total=len(todo), desc="Preparing videos", unit="video"), key=lambda each: each[0])
    failures = [{"video": str(path.relative_to(source)), "error": str(error)} for (path, _), error in done if error]
    target.mkdir(parents=True, exist_ok=True)
    report = "failures.jsonl" if count == 1 else f"failures-{number}-of-{count}.jsonl"
    (target / report).write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    return failures
