"""Which frames of a video its clips are made of: index arithmetic alone (SiaSamRea, Yu et al., NeurIPS 2021)."""

import numpy as np


def adaptive_frames(seconds: float, minimum: int = 5, maximum: int = 16) -> int:
    """
    Returns how many frames a clip has, by the length of its video.

    Args:
        seconds (`float`): Length of the video.
        minimum (`int`, *optional*, defaults to 5): Paper: 5.
        maximum (`int`, *optional*, defaults to 16): Paper: 16.

    Returns:
        `int`: one frame per second within the limits (decision; the paper says "5 to 16, by the length of the video").
    """
    return int(np.clip(round(seconds), minimum, maximum))


def sample_clips(
    num_video_frames: int,
    *,
    num_clips: int,
    frames_per_clip: int,
    training: bool,
    mode: str = "siamese",
    window: float = 0.5,
    window_frames: int | None = None,
    offset: tuple[int, int] = (0, 1),
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    r"""
    Samples the frame indices of a video's clips, the anchor clip first.

    The anchor takes a frame every `interval` frames over the whole video, from a random start in training and from the
    centre of its range at evaluation. Siamese clips have the same interval and start near the anchor. Intervals are in
    frames (paper), also where the rate varies: then parts of a higher rate are seen more densely (decision).

    Args:
        num_video_frames (`int`): Frames of the video.
        num_clips (`int`): N, the anchor and N - 1 siamese clips.
        frames_per_clip (`int`): B, frames of each clip.
        training (`bool`): Random starts, or at evaluation starts that depend on nothing but the other arguments.
        mode (`str`, *optional*, defaults to `"siamese"`):
            `"siamese"` (paper); `"copies"` of the anchor (ablation); or ClipBERT's `"random_windows"`, contiguous and
            independent of each other.
        window (`float`, *optional*, defaults to 0.5):
            Greatest distance of a siamese start from the anchor's, in intervals (decision). It widens when it holds
            too few starts; starts repeat only when the whole video is exhausted.
        window_frames (`int`, *optional*): Length of a clip in `"random_windows"`, in frames of the video.
        offset (`tuple[int, int]`, *optional*, defaults to `(0, 1)`):
            (k, K) at evaluation: the k-th of K anchor starts, spread evenly over the valid range as on a circle, from
            the centre on (decision). The 0-th is the centre for every K; all differ while there are K valid starts.
        generator (`numpy.random.Generator`, *optional*): Source of the random starts; needed in training.

    Returns:
        `numpy.ndarray` of shape `(clips, frames)`: indices in [0, num_video_frames). A video of fewer frames than a
        clip repeats its last frame.

    Raises:
        `ValueError`: If an argument is out of range; the message says which.
    """
    sizes = (num_video_frames, num_clips, frames_per_clip)
    if min(sizes) < 1:
        raise ValueError(f"num_video_frames, num_clips and frames_per_clip must be 1 or more; got {sizes}.")
    if training and generator is None:
        raise ValueError("Sampling clips for training needs a random generator.")
    if not training and not 0 <= offset[0] < offset[1]:
        raise ValueError(f"offset must be (k, K) with k from 0 to K - 1; got {offset}.")
    if mode == "random_windows":
        source = generator if training else None
        return _windows(num_video_frames, num_clips, frames_per_clip, window_frames, offset, source)

    interval = max(1, num_video_frames // frames_per_clip)
    last_start = max(0, num_video_frames - 1 - (frames_per_clip - 1) * interval)
    anchor = int(generator.integers(last_start + 1)) if training else _spread_start(last_start, *offset)
    if mode == "copies":
        siamese = np.full(num_clips - 1, anchor)
    elif mode == "siamese":
        reach = int(np.ceil(window * interval))
        siamese = _siamese_starts(anchor, last_start, reach, num_clips - 1, generator if training else None)
    else:
        raise ValueError(f"There is no sampling mode {mode!r}; choose siamese, copies or random_windows.")
    starts = np.concatenate([[anchor], siamese]).astype(np.int64)  # (clips,)
    indices = starts[:, None] + interval * np.arange(frames_per_clip)  # (clips, frames)
    return np.minimum(indices, num_video_frames - 1)


def shuffle_frames(clips: np.ndarray, seed: int) -> np.ndarray:
    r"""
    Puts the frames of clips in another order, the same for each clip.

    Args:
        clips (`numpy.ndarray` of shape `(clips, frames)`): Frame indices.
        seed (`int`): Seed of the order; it is never the frames' own where a clip has two or more.
    """
    in_order = np.arange(clips.shape[1])
    order = np.random.default_rng(seed).permutation(in_order)
    return clips[:, np.roll(order, 1) if (order == in_order).all() else order]


def _spread_start(last_start: int, k: int, number: int) -> int:
    """Returns the k-th of `number` starts in 0 .. last_start, evenly spread as on a circle, from the centre on."""
    return (last_start // 2 + k * (last_start + 1) // number) % (last_start + 1)


def _siamese_starts(
    anchor: int, last_start: int, reach: int, count: int, generator: np.random.Generator | None
) -> np.ndarray:
    """Samples `count` starts within `reach` of the anchor's, all different if there are enough; random or even."""
    reach = max(reach, 1)
    while True:
        nearby = np.arange(max(0, anchor - reach), min(last_start, anchor + reach) + 1)
        nearby = nearby[nearby != anchor]
        if len(nearby) >= count or reach >= last_start:
            break
        reach *= 2
    if len(nearby) < count:
        return np.resize(np.append(nearby, anchor), count)
    if generator is not None:
        return generator.choice(nearby, size=count, replace=False)
    return nearby[np.linspace(0, len(nearby) - 1, count).round().astype(int)]


def _windows(
    num_video_frames: int,
    num_clips: int,
    frames_per_clip: int,
    window_frames: int | None,
    offset: tuple[int, int],
    generator: np.random.Generator | None,
) -> np.ndarray:
    """
    ClipBERT's clips: random contiguous windows, or at inference the i-th of n at (length - window) * i / n. With the
    offset (k, K) all are k / K of the distance between two of them later (decision).
    """
    if window_frames is None or window_frames < 1:
        raise ValueError(f"The mode random_windows needs window_frames, 1 or more; got {window_frames}.")
    room = num_video_frames - min(window_frames, num_video_frames)
    if generator is not None:
        starts = generator.integers(room + 1, size=num_clips)
    else:
        k, number = offset
        starts = room * (number * np.arange(num_clips) + k) // (number * num_clips)
    offsets = np.linspace(0, num_video_frames - 1 - room, frames_per_clip).astype(np.int64)
    return starts[:, None] + offsets  # (clips, frames)
