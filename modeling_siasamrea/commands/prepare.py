"""`siasamrea prepare`: a copy of a folder of videos that decodes fast, with the same frames at the same times."""

import argparse
from collections.abc import Sequence

from ..preparation.small_copies import prepare_videos
from .parser import add_work_arguments, one_or_more, parser_for, reader, user_path


def main(argv: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Command line; returns the videos that failed."""
    given = vars(prepare_arguments(argv))
    output = given.pop("output")
    failures = prepare_videos(target=output, **given)
    unread = f" that can be read; failures.jsonl names the others: {len(failures)}" if failures else ""
    print(f"{output} has copies of all videos{unread}.")
    return failures


def prepare_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Makes a fast copy of a folder of videos: smaller pictures, short groups of pictures, no audio.

        siasamrea prepare videos fast_videos --short_side 256

    Decoding costs most of a training step on large videos. The copies are named as the videos are, but end in .mp4.
    They have the frames that are shown, turned as they are shown, and their times, so the frames that are sampled stay
    the same; pixels change by what resizing and H.264 change. It can be stopped and started again: what is finished is
    never done twice, and a video is there whole or not at all. Videos that cannot be read are listed in
    `failures.jsonl` in the new folder.
    """
    parser = parser_for(prepare_arguments)
    parser.add_argument("source", type=user_path, help="folder of videos")
    parser.add_argument("output", type=user_path, help="folder for the copies")
    parser.add_argument("--short_side", type=one_or_more, default=256, help="pixels; default: %(default)s")
    parser.add_argument("--group", type=one_or_more, default=8, help="frames between key frames; default: %(default)s")
    crf = reader(lambda text: range(52).index(int(text)), "a whole number from 0 to 51")
    parser.add_argument("--crf", type=crf, default=20, help="H.264 quality, lower is better; default: %(default)s")
    add_work_arguments(parser, "copy", "failures.jsonl is then failures-i-of-n.jsonl")
    return parser.parse_args(argv)
