"""What the settings of a video processor may be: names and values that mean nothing are refused with a sentence."""

import difflib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any


# The least value of each number.
LEAST = {
    "num_clips": 1,
    "num_eval_clips": 1,
    "eval_offsets": 1,
    "min_frames": 1,
    "max_frames": 1,
    "window": 0,
    "rescale_factor": 0,
    "fps": 0,
}
SWITCHES = (
    *("do_resize", "do_pad", "do_center_crop", "do_rescale", "do_normalize", "do_sample_frames", "antialias"),
    *("round_frames", "training", "return_metadata"),
)
# Settings that every video processor of Transformers has, and this one would not follow: the only value each can have.
FIXED = {"num_frames": None, "do_convert_rgb": True, "data_format": "channels_first"}
NEVER_ZERO = ("rescale_factor", "fps")
WORDS = {
    "video_backend": ("pyav", "torchcodec"),
    "sampling": ("siamese", "copies", "anywhere", "random_windows", "dense"),
    "channel_order": ("rgb", "bgr"),
}
EDGES = ("longest_edge", "shortest_edge")
SIZES = (("longest_edge",), ("shortest_edge",), ("height", "width"))
# Names of Transformers' own beside the settings.
NAMES_OF_TRANSFORMERS = (
    "auto_map",
    "custom_pipelines",
    "feature_extractor_type",
    "image_processor_type",
    "model_valid_processing_keys",
    "pad_size",
    "processor_class",
    "video_processor_type",
)


def refuse_unknown_settings(given: Iterable[str], names: list[str], owner: str = "SiaSamReaVideoProcessor") -> None:
    """Raises a `ValueError` with the nearest right name if a setting is unknown to its owner."""
    for name in given:
        if name in names or name in NAMES_OF_TRANSFORMERS or name.startswith("_"):
            continue
        if name in EDGES:
            raise ValueError(f'{owner} has no setting {name!r}. Did you mean size={{"{name}": ...}}?')
        (nearest,) = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        raise ValueError(f"{owner} has no setting {name!r}. Did you mean {nearest!r}?")


def refuse_misspelt_settings(given: Iterable[str], names: list[str]) -> None:
    """Refuses what is almost a setting, among names that may be another's, as those of a tokenizer beside it are."""
    known = [*names, *NAMES_OF_TRANSFORMERS]
    almost = [name for name in given if name in EDGES or difflib.get_close_matches(name, known, n=1, cutoff=0.8)]
    refuse_unknown_settings(almost, names)


def check_settings(settings: Mapping[str, Any]) -> None:
    r"""
    Checks the values of settings.

    Args:
        settings (`Mapping[str, Any]`): Values by name; those that are missing or `None` are not set.

    Raises:
        `ValueError`: If a value is outside what the setting can be; the message names it and what would be right.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name, words in WORDS.items():
        if name in given and given[name] not in words:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}; got {given[name]!r}.")
    for name in SWITCHES:
        if name in given and not isinstance(given[name], bool):
            raise ValueError(f"{name} must be True or False; got {given[name]!r}.")
    for name, value in FIXED.items():
        if name in given and given[name] != value:
            instead = " Frames are numbered by frames_per_clip." if name == "num_frames" else ""
            raise ValueError(f"{name} cannot be {given[name]!r}: this video processor would not follow it.{instead}")
    for name in LEAST.keys() & given.keys():
        _check_number(name, given[name])
    for name in ("num_clips", "num_eval_clips", "eval_offsets", "min_frames", "max_frames"):
        if name in given and not _is_whole(given[name]):
            raise ValueError(f"{name} must be a whole number; got {given[name]!r}.")
    frames = given.get("frames_per_clip", "adaptive")
    if frames != "adaptive" and not (_is_whole(frames) and frames >= 1):
        raise ValueError(f'frames_per_clip must be "adaptive" or a whole number from 1; got {frames!r}.')
    if given.get("min_frames", 1) > given.get("max_frames", math.inf):
        raise ValueError(f"min_frames is {given['min_frames']}, more than max_frames, {given['max_frames']}.")
    for name in ("image_mean", "image_std"):
        if name in given:
            _check_channels(name, given[name])
    if "size" in given:
        _check_size("size", given["size"], SIZES)
    if "crop_size" in given:
        _check_size("crop_size", given["crop_size"], SIZES[-1:])
    if given.get("eval_offsets", 1) > 1 and not given.get("do_sample_frames", True):
        raise ValueError("Several anchor starts (eval_offsets) need frames to be sampled; do_sample_frames is off.")
    if given.get("do_center_crop") and "crop_size" not in given:
        raise ValueError('do_center_crop needs crop_size={"height": ..., "width": ...}.')
    if "resample" in given and given["resample"] != 2:
        raise ValueError(f"resample must be 2 (bilinear), the only way frames are resized; got {given['resample']!r}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _check_number(name: str, value: Any) -> None:
    if not _is_number(value):
        raise ValueError(f"{name} must be a finite number; got {value!r}.")
    if value < LEAST[name] or (name in NEVER_ZERO and value == 0):
        raise ValueError(
            f"{name} must be {'above 0' if name in NEVER_ZERO else f'{LEAST[name]} or more'}; got {value}."
        )


def _check_channels(name: str, value: Any) -> None:
    values = list(value) if isinstance(value, list | tuple) else []
    if len(values) != 3 or not all(map(_is_number, values)):
        raise ValueError(f"{name} must be three finite numbers, for R, G and B; got {value!r}.")
    if name == "image_std" and min(values) <= 0:
        raise ValueError(f"image_std must be above 0, for frames are divided by it; got {value!r}.")


def _check_size(name: str, value: Any, forms: tuple[tuple[str, ...], ...]) -> None:
    """A size is given in one of several forms; its other sides are missing or `None`."""
    right = " or ".join("{" + ", ".join(f'"{side}": ...' for side in form) + "}" for form in forms)
    try:
        sides = {side: pixels for side, pixels in dict(value).items() if pixels is not None}
    except (TypeError, ValueError):
        raise ValueError(f"{name} must have the form {right}; got {value!r}.") from None
    if set(sides) not in [set(form) for form in forms]:
        raise ValueError(f"{name} must have the form {right}; got {sides}.")
    for side, pixels in sides.items():
        if not _is_whole(pixels) or pixels < 1:
            raise ValueError(f"{side} of {name} must be a whole number of pixels from 1; got {pixels!r}.")
