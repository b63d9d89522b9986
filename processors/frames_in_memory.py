"""Videos that are frames already: arrays, tensors, and lists of images or of image files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from .video_error import VideoDecodingError
from .video_source import is_source, local_file, source_name


NAME = "in memory"
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")  # modes of images


def is_frames(video: Any) -> bool:
    """Says whether a video is frames: an array, a tensor or a list."""
    return isinstance(video, (np.ndarray, torch.Tensor, list, tuple))


def is_image(frame: Any) -> bool:
    """Says whether something is one picture: an image, or an array of at most three dimensions."""
    return isinstance(frame, Image.Image) or (isinstance(frame, (np.ndarray, torch.Tensor)) and frame.ndim < 4)


def count_frames(video: np.ndarray | torch.Tensor | Sequence[Any]) -> int:
    r"""
    Counts the frames.

    Args:
        video (`np.ndarray`, `torch.Tensor` or list):
            Frames `(frames, height, width, 3)` or `(frames, 3, height, width)` as uint8; or a list of images: PIL
            images, arrays or tensors `(height, width, 3)` or `(3, height, width)`, or image files in any form that
            [`local_file`] takes, which are turned as their EXIF data say.

    Raises:
        [`VideoDecodingError`]: If there are none, or an array is of another shape or type.
    """
    if isinstance(video, (np.ndarray, torch.Tensor)):
        _check(video, "its frames", 4, "(frames, height, width, 3) or (frames, 3, height, width)")
    if not len(video):
        raise VideoDecodingError(NAME, "it has no frames")
    return len(video)


def pick_frames(video: np.ndarray | torch.Tensor | Sequence[Any], indices: np.ndarray) -> torch.Tensor:
    r"""
    Picks the frames at given indices. Of a list, only these are opened.

    Args:
        video (`np.ndarray`, `torch.Tensor` or list): As [`count_frames`] accepts it.
        indices (`np.ndarray`): Indices within the video, in any order.

    Returns:
        `torch.Tensor` of shape `(indices, 3, height, width)`, uint8, RGB.

    Raises:
        [`VideoDecodingError`]: If an image cannot be read, or is of another size than the others.
    """
    if isinstance(video, (list, tuple)):
        unique, inverse = np.unique(indices, return_inverse=True)
        frames = [_image(video[number], number) for number in unique.tolist()]
        if len(sizes := {tuple(frame.shape[1:]) for frame in frames}) > 1:
            raise VideoDecodingError(NAME, f"its frames must have one height and width; got {sorted(sizes)}")
        return torch.stack(frames)[torch.as_tensor(inverse)]
    frames = torch.as_tensor(video[indices])  # (indices, height, width, 3) or (indices, 3, height, width)
    return frames if frames.shape[1] == 3 else frames.permute(0, 3, 1, 2)


def _check(array: np.ndarray | torch.Tensor, what: str, dimensions: int, shapes: str) -> None:
    """Raises if an array is not made of whole pixel values with three channels."""
    shape = tuple(array.shape)
    if len(shape) != dimensions or 3 not in (shape[-1], shape[-3]) or not all(shape[1:]):
        raise VideoDecodingError(NAME, f"{what} must have the shape {shapes}; got {shape}")
    if array.dtype not in (np.uint8, torch.uint8):
        raise VideoDecodingError(NAME, f"{what} must be uint8, from 0 to 255; got {array.dtype}")


def _image(frame: Any, number: int) -> torch.Tensor:
    """Returns a frame of a list as `(3, height, width)`."""
    if is_source(frame):
        with local_file(frame) as path:
            try:
                with Image.open(path) as image:
                    frame = ImageOps.exif_transpose(image)
            except Exception as error:  # a damaged file fails in as many ways as there are formats
                reason = f"frame {number} is no image that can be read ({type(error).__name__})"
                raise VideoDecodingError(source_name(frame), reason) from None
    if isinstance(frame, Image.Image):
        if frame.mode not in EIGHT_BITS:
            raise VideoDecodingError(NAME, f"frame {number} must have 8 bits per channel; its mode is {frame.mode!r}")
        return torch.from_numpy(np.array(frame.convert("RGB"))).permute(2, 0, 1)
    if not isinstance(frame, (np.ndarray, torch.Tensor)):
        raise VideoDecodingError(NAME, f"frame {number} is a {type(frame).__name__}, not an image or an image file")
    _check(frame, f"frame {number}", 3, "(height, width, 3) or (3, height, width)")
    frame = torch.as_tensor(frame)
    return frame if frame.shape[0] == 3 else frame.permute(2, 0, 1)
