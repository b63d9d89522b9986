"""
Makes a fast copy of a folder of videos: smaller pictures, short groups of pictures, no audio.

    python examples/prepare_videos.py videos fast_videos --short_side 256

Decoding costs most of a training step on large videos. The copy keeps names, frames and their times, so annotation
rows and the frames that are sampled stay the same; pixels change by what resizing and H.264 change. It can be stopped
and started again: what is finished is never done twice, and a video is there whole or not at all. Videos that cannot
be read are listed in `failures.jsonl` in the new folder.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from tqdm import tqdm

from modeling_siasamrea.processors.video_decoding import VIDEO_SUFFIXES


def new_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the shorter side at `short_side` pixels at most, both even."""
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
    options = {"crf": str(crf), "preset": "veryfast", "g": str(group), "bf": "0", "tune": "fastdecode"}
    try:
        with av.open(str(source), metadata_errors="ignore") as container:
            if not container.streams.video:
                return "it has no video stream"
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = Fraction(stream.average_rate or 25).limit_denominator(60000)
            with av.open(str(unfinished), "w", format="mp4") as copy:
                written = copy.add_stream("libx264", rate=rate, options=options)
                written.width, written.height = new_size(stream.width, stream.height, short_side)
                written.pix_fmt = "yuv420p"
                written.codec_context.thread_count = 1
                count = 0
                for frame in container.decode(stream):
                    small = frame.reformat(written.width, written.height, "yuv420p")
                    # One frame after the other at the average rate: the index of each stays what it was.
                    small.pts, small.time_base = count, 1 / rate
                    copy.mux(written.encode(small))
                    count += 1
                copy.mux(written.encode())
    except (av.FFmpegError, OSError, ValueError) as error:
        unfinished.unlink(missing_ok=True)
        return str(error).splitlines()[0]
    if count == 0:
        unfinished.unlink(missing_ok=True)
        return "it has no frames"
    os.replace(unfinished, target)
    return None


def prepare_videos(
    source: str | Path, target: str | Path, short_side: int = 256, group: int = 8, crf: int = 20, workers: int = 2
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

    Returns:
        `list[dict[str, str]]`: `video` and `error` of each that failed, also in `failures.jsonl`.

    Raises:
        `ValueError`: If the folder has no videos, or two of them differ in nothing but their suffix.
    """
    source, target = Path(source), Path(target)
    videos = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise ValueError(f"The folder {source} has no videos ({', '.join(VIDEO_SUFFIXES)}).")
    targets = {}
    for path in videos:
        copy = target / path.relative_to(source).with_suffix(".mp4")
        if copy in targets:
            raise ValueError(f"{targets[copy]} and {path} would both become {copy}; rename one of them.")
        targets[copy] = path
    todo = {path: copy for copy, path in targets.items() if not copy.exists()}
    failures = []
    work = partial(prepare_video, short_side=short_side, group=group, crf=crf)
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(work, path, copy): path for path, copy in todo.items()}
        for done in tqdm(as_completed(running), total=len(running), desc="Preparing videos", unit="video"):
            if done.result() is not None:
                failures.append({"video": str(running[done].relative_to(source)), "error": done.result()})
    failures.sort(key=lambda failure: failure["video"])
    target.mkdir(parents=True, exist_ok=True)
    (target / "failures.jsonl").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    return failures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of videos")
    parser.add_argument("target", type=Path, help="folder for the copies")
    parser.add_argument("--short_side", type=int, default=256, help="pixels; default: %(default)s")
    parser.add_argument("--group", type=int, default=8, help="frames between key frames; default: %(default)s")
    parser.add_argument("--crf", type=int, default=20, help="H.264 quality, lower is better; default: %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: one a core")
    arguments = vars(parser.parse_args())
    try:
        failures = prepare_videos(**arguments)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print(f"{arguments['target']} is complete but for {len(failures)} videos that cannot be read.")


if __name__ == "__main__":
    main()
