"""Video processor for SiaSamRea: siamese sampling, resizing and normalising."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torchvision.transforms.v2 import functional as tvF
from transformers import BatchFeature
from transformers.image_processing_base import ImageProcessingMixin
from transformers.image_processing_utils import get_size_dict
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoInput, VideoMetadata

from .frames_in_memory import is_image
from .siamese_sampling import adaptive_frames, sample_clips, shuffle_frames
from .video_decoding import FrameTimes, decode_frames
from .video_download import DownloadLimits, limit_downloads


logger = logging.get_logger(__name__)


# Kinds of values by the names that the validator of settings has for them.
KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a text"}
KINDS |= dict.fromkeys(("dict", "a dict", "PreTrainedConfig"), "a dictionary") | dict.fromkeys(
    ("list", "a tuple"), "a list"
)
# Settings of all video processors of Transformers that this one cannot change, with their only value.
FIXED = {"num_frames": None, "do_convert_rgb": True, "data_format": "channels_first", "resample": 2}


class SampledClips(NamedTuple):
    """
    Holds the clips of a video, with each frame once.

    Args:
        frames (`torch.Tensor` of shape `(unique, 3, height, width)`): Frames in the order of time, uint8, RGB.
        positions (`torch.Tensor` of shape `(clips, frames)`):
            Places of the clips' frames in `frames`: `frames[positions]` are the clips, the anchor first.
        indices (`np.ndarray` of shape `(clips, frames)`): Index of each frame in the video, or in its span.
        times (`np.ndarray` of shape `(clips, frames)`, *optional*):
            When each frame is shown, in seconds from the video's first; `None` for frames in memory.
        metadata ([`FrameTimes`]): Of the video or its span; `frames_indices` are those of all clips in turn.
    """

    frames: torch.Tensor
    positions: torch.Tensor
    indices: np.ndarray
    times: np.ndarray | None
    metadata: FrameTimes


class SiaSamReaVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Arguments that [`SiaSamReaVideoProcessor`] has beside those of every video processor. The first seven are for one
    call; the others are saved with the checkpoint.

    Args:
        training (`bool`, *optional*, defaults to `False`): Whether clips are random; else they are evaluation's.
        seed (`int` or `list[int]`, *optional*): Seed of the random clips, for each video.
        start (`float` or `list[float]`, *optional*): Start of the span asked about, in seconds, for each video.
        end (`float` or `list[float]`, *optional*): End of the span asked about, in seconds, for each video.
        download_limits (`dict`, *optional*):
            `max_bytes`, `max_seconds` and `public_only` of videos behind addresses, see [`DownloadLimits`].
        eval_offset (`tuple[int, int]`, *optional*, defaults to `(0, 1)`):
            (k, K): the k-th of K anchor starts at evaluation, see `offset` of [`sample_clips`].
        shuffle_frames (`bool`, *optional*, defaults to `False`):
            Whether evaluation's frames are shown in another order, drawn by `seed`, see [`shuffle_frames`].
        num_clips (`int`, *optional*, defaults to 9): Clips in training. Paper: an anchor and 8 siamese clips.
        num_eval_clips (`int`, *optional*, defaults to 1): Clips at evaluation. Paper: the anchor alone.
        frames_per_clip (`int` or `"adaptive"`, *optional*, defaults to `"adaptive"`):
            B. Paper: 5 to 16, by the length of the video. Adaptive: `fps` per second (default 1) within the limits
            below (decision).
        min_frames (`int`, *optional*, defaults to 5): Fewest frames of an adaptive clip (paper).
        max_frames (`int`, *optional*, defaults to 16): Most frames of an adaptive clip (paper).
        sampling (`str`, *optional*, defaults to `"siamese"`):
            `"siamese"` (paper), `"copies"` of the anchor (ablation), or ClipBERT's `"random_windows"`, whose clips
            last `frames_per_clip / fps` seconds.
        window (`float`, *optional*, defaults to 0.5): Farthest siamese start, in frame intervals (decision).
        antialias (`bool`, *optional*, defaults to `True`): Whether resizing smooths; ClipBERT does not.
        round_frames (`bool`, *optional*, defaults to `True`):
            Whether resized frames are rounded to whole pixel values and kept as uint8 (decision; ClipBERT: not).
        video_backend (`str`, *optional*, defaults to `"pyav"`):
            `"torchcodec"` decodes with torchcodec where it gives a player's frames, on `device` if that is a GPU.
        channel_order (`str`, *optional*, defaults to `"rgb"`): `"bgr"` for ClipBERT's image encoder. Mean and standard
            deviation are given for R, G and B in any case.
    """

    training: bool | None
    seed: int | list[int] | None
    start: float | int | list | None
    end: float | int | list | None
    download_limits: dict | None
    eval_offset: tuple[int, int] | None
    shuffle_frames: bool | None
    num_clips: int | None
    num_eval_clips: int | None
    frames_per_clip: int | Literal["adaptive"] | None
    min_frames: int | None
    max_frames: int | None
    sampling: Literal["siamese", "copies", "random_windows"] | None
    window: float | int | None
    antialias: bool | None
    round_frames: bool | None
    video_backend: Literal["pyav", "torchcodec"] | None
    channel_order: Literal["rgb", "bgr"] | None


class SiaSamReaVideoProcessor(BaseVideoProcessor):
    r"""
    Turns videos into the clips of [`SiaSamReaModel`]: samples, decodes, resizes, pads or crops, and normalises.

    Frames are resized to `size["longest_edge"]` and padded with zeros at the bottom and right to a square (ClipBERT),
    or to `size["shortest_edge"]` and cropped at the centre to `crop_size`. Padding comes before the mean is taken.

    Args:
        kwargs: See [`SiaSamReaVideoProcessorKwargs`]; also `size`, `crop_size`, `do_pad`, `do_center_crop`,
            `image_mean`, `image_std` and `rescale_factor` as in every video processor.

    Raises:
        `ValueError`: If a setting is unknown or its value is wrong.

    Example:

    ```python
    >>> processor = SiaSamReaVideoProcessor(size={"longest_edge": 224})
    >>> processor("cat.mp4", return_tensors="pt")["pixel_values_videos"].shape  # one video, one clip, ten frames
    torch.Size([1, 1, 10, 3, 224, 224])
    ```"""

    valid_kwargs = SiaSamReaVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "frame_mask"]

    do_resize = True
    size = {"longest_edge": 224}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_pad = True
    do_center_crop = False
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    do_convert_rgb = True
    do_sample_frames = True
    num_clips = 9
    num_eval_clips = 1
    frames_per_clip = "adaptive"
    min_frames = 5
    max_frames = 16
    sampling = "siamese"
    window = 0.5
    fps = 1.0
    antialias = True
    round_frames = True
    video_backend = "pyav"
    channel_order = "rgb"

    def __init__(self, **kwargs: Unpack[SiaSamReaVideoProcessorKwargs]):
        # Transformers saves names of its own beside the settings.
        own = re.compile("_.*|.*_type|auto_map|custom_pipelines|processor_class")
        given = [name for name in kwargs if not own.fullmatch(name)]
        refuse_unknown_names("SiaSamReaVideoProcessor", given, self.valid_kwargs.__annotations__)
        super().__init__(**kwargs)
        _check(self._settings({}))

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs) -> "SiaSamReaVideoProcessor":
        """Makes the video processor of a dictionary, with `kwargs` over it; a misspelt setting is refused."""
        # Other names may be meant for another part of a checkpoint, such as its tokenizer.
        refuse_unknown_names("SiaSamReaVideoProcessor", kwargs, cls.valid_kwargs.__annotations__, cutoff=0.8)
        return super().from_dict(video_processor_dict, **kwargs)

    @classmethod
    def from_image_encoder(cls, vision: str, **kwargs) -> "SiaSamReaVideoProcessor":
        r"""
        Makes a video processor with the pixel mean, deviation and scale that an image encoder was trained with.

        Args:
            vision (`str`): Hub name or folder of the image encoder. Without a `preprocessor_config.json`, mean and
                deviation are 0.5, with a warning.
            kwargs: Arguments of the video processor, instead of the encoder's.

        Returns:
            [`SiaSamReaVideoProcessor`]
        """
        try:
            of_encoder, _ = ImageProcessingMixin.get_image_processor_dict(vision)
        except OSError:
            logger.warning(f"{vision} has no preprocessor_config.json: pixels get mean and deviation 0.5.")
            of_encoder = {}
        names = ("image_mean", "image_std", "rescale_factor")
        return cls(**{name: of_encoder[name] for name in names if name in of_encoder} | kwargs)

    def preprocess(self, videos: VideoInput, **kwargs: Unpack[SiaSamReaVideoProcessorKwargs]) -> BatchFeature:
        r"""
        Prepares one or several videos.

        Args:
            videos: A video, see [`decode_frames`], or a list of videos. A list of paths is several videos; a list of
                such lists is videos whose frames are files.
            kwargs: Arguments of [`SiaSamReaVideoProcessorKwargs`] for this call.

        Returns:
            [`BatchFeature`]: `pixel_values_videos` `(videos, clips, frames, 3, height, width)`, clip 0 the anchor, and
            `frame_mask` `(videos, frames)`, 0 for the padding of videos with fewer frames per clip than others. With
            `do_rescale=False, do_normalize=False`, frames are uint8, RGB, as
            [`~SiaSamReaVideoProcessor.normalize_frames`] takes them. With `return_metadata=True` also
            `video_metadata`, the [`FrameTimes`] of each video with the `frames_indices` of all its clips in turn.

        Raises:
            [`VideoDecodingError`]: If a video cannot be read.
            `ValueError`: If a setting is wrong, training has no seed, or a list does not fit the videos.
        """
        refuse_unknown_names("SiaSamReaVideoProcessor", kwargs, self.valid_kwargs.__annotations__)
        kwargs = self._settings(kwargs)
        _check(kwargs)

        videos = _as_list(videos)
        spans = [_for_each(name, kwargs[name], len(videos)) for name in ("start", "end", "seed")]
        sampled = [self._clips(video, *span, kwargs) for video, *span in zip(videos, *spans)]
        clips = [clip for clip, _ in sampled]
        batch = stack_padded(clips)  # (videos, clips, frames, 3, height, width)
        mask = torch.tensor([[int(frame < clip.shape[1]) for frame in range(batch.shape[2])] for clip in clips])
        if kwargs["do_rescale"] or kwargs["do_normalize"]:
            batch = self.normalize_frames(batch, **kwargs)
        features = BatchFeature({"pixel_values_videos": batch, "frame_mask": mask})
        features = features.convert_to_tensors(kwargs["return_tensors"])
        if kwargs["return_metadata"]:
            features["video_metadata"] = [metadata for _, metadata in sampled]
        return features

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns all settings: those of a call over the processor's own, with sizes as dictionaries."""
        settings = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__} | given
        for name, square in ("size", self.default_to_square), ("crop_size", True):  # whether one number is a square
            if settings[name] is not None:
                settings[name] = get_size_dict(settings[name], default_to_square=square, param_name=name)
        return settings

    def sample_indices(self, metadata: VideoMetadata, **kwargs: Unpack[SiaSamReaVideoProcessorKwargs]) -> np.ndarray:
        r"""
        Samples the frame indices of a video's clips, see [`sample_clips`].

        Args:
            metadata ([`VideoMetadata`]): Number of frames and frames per second of the video, or of its span.
            kwargs: Arguments of [`SiaSamReaVideoProcessorKwargs`]; the processor's own by default.

        Returns:
            `np.ndarray` of shape `(clips, frames)`: the anchor first.
        """
        kwargs = self._settings(kwargs)
        if not kwargs["do_sample_frames"]:
            return np.arange(metadata.total_num_frames)[None]
        training = bool(kwargs["training"])
        if training and kwargs["seed"] is None:
            raise ValueError("Sampling clips for training needs a seed for each video.")
        # Frames without a rate, such as a list of images, count as one a second (decision).
        rate = metadata.fps or 1.0
        frames = kwargs["frames_per_clip"]
        if frames == "adaptive":
            seconds = metadata.duration or metadata.total_num_frames / rate
            frames = adaptive_frames(seconds * (kwargs["fps"] or 1.0), kwargs["min_frames"], kwargs["max_frames"])
        sampled = sample_clips(
            metadata.total_num_frames,
            num_clips=kwargs["num_clips"] if training else kwargs["num_eval_clips"],
            frames_per_clip=frames,
            training=training,
            mode=kwargs["sampling"],
            window=kwargs["window"],
            window_frames=max(1, round(frames / (kwargs["fps"] or 1.0) * rate)),
            offset=kwargs["eval_offset"] or (0, 1),
            generator=np.random.default_rng(kwargs["seed"]) if training else None,
        )
        shuffled = kwargs["shuffle_frames"] and not training
        return shuffle_frames(sampled, kwargs["seed"] or 0) if shuffled else sampled

    sample_frames = sample_indices  # the name that other video processors have for it

    def sample_clips_of(
        self,
        video: VideoInput,
        start: float | None = None,
        end: float | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **kwargs: Unpack[SiaSamReaVideoProcessorKwargs],
    ) -> SampledClips:
        r"""
        Samples a video's clips and decodes their frames, for a model with a processor of its own.

        Args:
            video: A file, an address, a `(frames, height, width, 3)` array or a list of images.
            start (`float`, *optional*): Start of the span asked about, in seconds.
            end (`float`, *optional*): End of the span asked about, in seconds.
            transform (`Callable`, *optional*):
                Applied to a few uint8 frames `(few, 3, height, width)` at a time. Default: frames keep their size.
            kwargs: Arguments of [`SiaSamReaVideoProcessorKwargs`], such as `training` and `seed`; the processor's own
                by default.

        Returns:
            [`SampledClips`]

        Example:

        ```python
        >>> sampled = processor.sample_clips_of("cat.mp4", training=True, seed=0)
        >>> anchor = sampled.frames[sampled.positions[0]]  # (frames, 3, height, width)
        >>> sampled.times[0]  # when each of them is shown, in seconds
        ```"""
        indices = None

        def sample(metadata: VideoMetadata) -> np.ndarray:
            nonlocal indices
            indices = self.sample_indices(metadata, **kwargs)
            return np.unique(indices)

        frames, metadata = self.decode(video, sample, start, end, transform, **kwargs)
        positions = torch.as_tensor(np.searchsorted(np.unique(indices), indices))  # (clips, frames)
        times = None if metadata.times is None else metadata.times[indices]
        metadata.frames_indices = indices.ravel().tolist()
        return SampledClips(frames, positions, indices, times, metadata)

    def decode(
        self,
        video: VideoInput,
        sample: Callable[[FrameTimes], np.ndarray],
        start: float | None = None,
        end: float | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **kwargs: Unpack[SiaSamReaVideoProcessorKwargs],
    ) -> tuple[torch.Tensor, FrameTimes]:
        """Decodes the frames that `sample` chooses with the processor's settings, see [`decode_frames`]."""
        settings = self._settings(kwargs)
        limits = settings["download_limits"]
        with nullcontext() if limits is None else limit_downloads(DownloadLimits.from_dict(limits)):
            return decode_frames(video, sample, start, end, settings["video_backend"], transform, settings["device"])

    def _clips(
        self, video: VideoInput, start: float | None, end: float | None, seed: int | None, kwargs: dict
    ) -> tuple[torch.Tensor, FrameTimes]:
        """Returns a video's clips, resized, `(clips, frames, 3, height, width)`; each frame is decoded once."""

        def resize(frames: torch.Tensor) -> torch.Tensor:
            return self.resize_frames(frames.to(kwargs["device"] or "cpu"), **kwargs)

        spans = {"start": start, "end": end, "seed": seed}
        sampled = self.sample_clips_of(video, transform=resize, **kwargs | spans)
        clips = sampled.frames.index_select(0, sampled.positions.flatten().to(sampled.frames.device))
        return clips.unflatten(0, sampled.positions.shape), sampled.metadata

    def resize_frames(self, frames: torch.Tensor, **kwargs) -> torch.Tensor:
        """
        Resizes, rounds, crops and pads frames as the settings say; [`~SiaSamReaVideoProcessor.normalize_frames`] comes
        next.

        Args:
            frames (`torch.Tensor` of shape `(frames, 3, height, width)`): Pixel values from 0 to 255, RGB.
            kwargs: Settings; the processor's own by default.

        Returns:
            `torch.Tensor` of shape `(frames, 3, new height, new width)`: uint8 if they are rounded, else float32.
        """
        kwargs = self._settings(kwargs)
        size = _resized(*frames.shape[-2:], kwargs["size"]) if kwargs["do_resize"] else frames.shape[-2:]
        if size != tuple(frames.shape[-2:]):
            frames = _scale(frames, size, kwargs["antialias"], kwargs["round_frames"])
        if kwargs["do_center_crop"]:
            frames = tvF.center_crop(frames, [kwargs["crop_size"]["height"], kwargs["crop_size"]["width"]])
        height, width = frames.shape[-2:]
        if kwargs["do_pad"] and height != width:
            frames = nn.functional.pad(frames, (0, max(height, width) - width, 0, max(height, width) - height))
        return frames

    def normalize_frames(self, frames: torch.Tensor, **kwargs) -> torch.Tensor:
        """
        Rescales, normalises and orders the channels of frames as the image encoder expects them, on their device.

        Args:
            frames (`torch.Tensor` of shape `(..., 3, height, width)`): Pixel values from 0 to 255, RGB.
            kwargs: Settings; the processor's own by default.

        Returns:
            `torch.Tensor` of the same shape, float32: what the whole preprocessing gives.
        """
        kwargs = self._settings(kwargs)
        frames = frames.to(torch.float32, copy=True)
        if kwargs["do_rescale"]:
            frames *= kwargs["rescale_factor"]
        if kwargs["do_normalize"]:
            frames -= frames.new_tensor(kwargs["image_mean"])[:, None, None]
            frames /= frames.new_tensor(kwargs["image_std"])[:, None, None]
        return frames.flip(-3) if kwargs["channel_order"] == "bgr" else frames


def refuse_unknown_names(owner: str, given: Iterable[str], names: Iterable[str], cutoff: float = 0.0) -> None:
    """Raises a `ValueError` with the nearest of `names` if a name is none of them, and as near to one as `cutoff`."""
    names = list(names)
    for name in given:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
        if name not in names and nearest:
            raise ValueError(f"{owner} has no setting {name!r}; did you mean {nearest[0]!r}?")


def wrong_setting(error: StrictDataclassError) -> str:
    """Says in one sentence which field of settings has a wrong value, by which rule, instead of the validator."""
    reason = " ".join(str(error.__cause__ or error).split())
    field = re.search("for field '(.*?)'", str(error))
    kinds = re.findall(r"expected (?:one of \((.*?),?\)|([\w ]+)), got", reason)
    given = re.search(r"with value (.*?) doesn't match|, got (?:\w+ \(value: (.*)\)|(.*))$", reason)
    if not (field and kinds and given):  # a sentence of its own, or "Value must be ..."
        return re.sub("^Value", field[1] if field else "Value", reason)
    rules = [KINDS.get(kind, kind) or values.replace(", ", " or ") for values, kind in kinds if kind != "NoneType"]
    rules = [rule for rule in dict.fromkeys(rules) if rule != "a whole number" or "a number" not in rules]
    rule = "has an item of a wrong kind" if "Invalid" in reason else f"must be {' or '.join(rules)}"
    return f"{field[1]} {rule}; got {given[given.lastindex]:.100}."


def _check(settings: Mapping[str, Any]) -> None:
    """Raises a `ValueError` if a setting of this processor has a wrong value, or two do not fit each other."""
    if settings["do_resize"]:
        _resized(1, 1, settings["size"] or {})
    try:
        validate_typed_dict(SiaSamReaVideoProcessorKwargs, dict(settings))
    except StrictDataclassError as error:
        raise ValueError(wrong_setting(error)) from None
    for name in ("num_clips", "num_eval_clips", "frames_per_clip", "min_frames", "max_frames", "window"):
        least = 0 if name == "window" else 1
        if isinstance(settings[name], int | float) and not settings[name] >= least:
            raise ValueError(f"{name} must be {least} or more; got {settings[name]}.")
    if settings["min_frames"] > settings["max_frames"]:
        raise ValueError(f"min_frames is {settings['min_frames']}, more than max_frames, {settings['max_frames']}.")
    if (settings["eval_offset"] or settings["shuffle_frames"]) and not settings["do_sample_frames"]:
        raise ValueError("eval_offset and shuffle_frames need do_sample_frames=True.")
    if settings["do_center_crop"] and settings["crop_size"] is None:
        raise ValueError('do_center_crop needs crop_size={"height": ..., "width": ...}.')
    for name, value in FIXED.items():
        if settings[name] not in (None, value):
            raise ValueError(f"{name} must be {value!r} in this video processor; got {settings[name]!r}.")


def _as_list(videos: VideoInput) -> list:
    """Returns videos as a list. A list of pictures is one video, other lists are several."""
    if isinstance(videos, (np.ndarray, torch.Tensor)) and videos.ndim == 5:
        return list(videos)
    if not isinstance(videos, (list, tuple)):
        return [videos]
    if not videos:
        raise ValueError("There is no video: the list of videos is empty.")
    return [videos] if is_image(videos[0]) else list(videos)


def _for_each(name: str, value: object, count: int) -> list:
    """Returns an argument of a call as a list with one value per video."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} must be one for all videos, or one for each ({count}); got {len(value)}.")
    return list(value)


def _resized(height: int, width: int, size: dict) -> tuple[int, int]:
    """Returns height and width after resizing; the other side is truncated to whole pixels, as ClipBERT does."""
    sides = {side: pixels for side, pixels in size.items() if pixels is not None}
    pixels = [*sides.values()] if all(isinstance(edge, int) and edge > 0 for edge in sides.values()) else []
    if pixels and sides.keys() == {"height", "width"}:
        return sides["height"], sides["width"]
    if not pixels or sides.keys() not in ({"longest_edge"}, {"shortest_edge"}):
        raise ValueError(f"size must be one edge, longest_edge or shortest_edge, or height and width; got {sides}.")
    side = max(height, width) if "longest_edge" in sides else min(height, width)
    return max(1, pixels[0] * height // side), max(1, pixels[0] * width // side)


def _scale(frames: torch.Tensor, size: tuple[int, int], antialias: bool, round_frames: bool) -> torch.Tensor:
    """Resizes frames `(frames, 3, height, width)`; the result is uint8 if they are rounded."""
    scaled = frames.new_empty(len(frames), 3, *size, dtype=torch.uint8 if round_frames else torch.float32)
    # Smoothing takes half the time where each channel lies by itself.
    layout = torch.contiguous_format if antialias else torch.preserve_format
    for frame, place in zip(frames, scaled):  # as floats, one fits a processor's cache
        floats = frame[None].float(memory_format=layout)
        floats = nn.functional.interpolate(floats, size, mode="bilinear", align_corners=False, antialias=antialias)[0]
        place.copy_(floats.round_() if round_frames else floats)
    return scaled


def stack_padded(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Stacks tensors of different sizes: zeros are added at the end of each dimension that is short."""
    if len(tensors) == 1:
        return tensors[0][None]
    stacked = tensors[0].new_zeros(len(tensors), *map(max, zip(*(tensor.shape for tensor in tensors))))
    for place, tensor in zip(stacked, tensors):
        place[tuple(slice(size) for size in tensor.shape)] = tensor
    return stacked
