"""Videos of every kind whose pictures say their numbers, and what a decode from the start shows of them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from modeling_siasamrea.processors.frame_index import LENIENT
from modeling_siasamrea.processors.video_decoding import decode_frames


FRAMES = 60
OPEN = {"x264-params": "open-gop=1:keyint=15:min-keyint=15:scenecut=0"}
CLOSED = {"g": "15"}


def picture(index: int, height: int = 48, width: int = 96) -> np.ndarray:
    """A frame whose six blocks say its index in binary, the highest bit first."""
    frame = np.full((height, width, 3), 90, dtype=np.uint8)
    for bit in range(6):
        frame[: height // 2, bit * width // 6 : (bit + 1) * width // 6] = 235 if index >> (5 - bit) & 1 else 20
    frame[height // 2 + 2 :, index : index + 20] = (200, 60, 30)
    return frame


def number(frame: torch.Tensor) -> int:
    """The index that a frame `(3, height, width)` shows."""
    height, width = frame.shape[1:]
    row = frame[:, height // 8 : height * 3 // 8].float().mean(dim=(0, 1))  # (width,)
    bits = [row[width * bit // 6 : width * (bit + 1) // 6].mean() > 127 for bit in range(6)]
    return sum(int(bit) << (5 - place) for place, bit in enumerate(bits))


def write(path: Path, codec: str, options: dict | None = None, times: list | None = None, **stream: object) -> Path:
    """Writes the pictures 0 to 59, at 25 frames a second or at `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        written = container.add_stream(codec, rate=stream.pop("rate", 25), options=options or {})
        written.width, written.height, written.pix_fmt = 96, 48, stream.pop("pix_fmt", "yuv420p")
        if codec not in ("libx264", "libx265", "libsvtav1"):
            written.bit_rate = 2_000_000
        for name, value in stream.items():
            setattr(written.codec_context, name, value)
        if times:
            written.codec_context.time_base = Fraction(1, 1000)
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(written.encode(frame))
        container.mux(written.encode())
    return path


def copy_packets(
    source: Path, target: Path, change: Callable[[int, av.Packet], bool] | None = None, rotation: dict | None = None
) -> Path:
    """Copies the packets of a video for which `change` is true, without encoding anew."""
    with av.open(str(source)) as original, av.open(str(target), "w") as copy:
        stream = original.streams.video[0]
        written = copy.add_stream_from_template(stream)
        if rotation:
            written.set_display_rotation(**rotation)
        keys = 0
        for packet in original.demux(stream):
            keys += packet.is_keyframe
            if packet.size and (change is None or change(keys, packet)):
                packet.stream = written
                copy.mux(packet)
    return target


def decoded_from_the_start(path: Path) -> list[np.ndarray]:
    """What a player shows: a decode in the order of presentation, which leaves discarded frames out."""
    with av.open(str(path), **LENIENT) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def check_every_frame(path: Path, count: int) -> None:
    """Sparse and dense choices of frames are those of a decode from the start."""
    reference = decoded_from_the_start(path)
    assert len(reference) == count
    generator = np.random.default_rng(0)
    for size in (1, 2, 5, count):
        indices = np.sort(generator.choice(count, size, replace=False))
        frames, metadata = decode_frames(path, indices)
        assert metadata.total_num_frames == count
        for index, frame in zip(indices, frames.permute(0, 2, 3, 1).numpy()):
            np.testing.assert_array_equal(frame, reference[index])


KINDS = {
    "h264_closed": ("libx264", CLOSED, {}),
    "h264_open": ("libx264", OPEN, {}),
    "h264_intra_refresh": ("libx264", {"g": "15", "x264-params": "intra-refresh=1"}, {}),
    "hevc_default": ("libx265", {"x265-params": "keyint=15:log-level=none"}, {}),
    "hevc_closed": ("libx265", {"x265-params": "keyint=15:open-gop=0:log-level=none"}, {}),
    "mpeg4_b": ("mpeg4", {}, {"max_b_frames": 2, "gop_size": 12}),
    "mpeg4": ("mpeg4", {}, {"max_b_frames": 0, "gop_size": 12}),
    "mpeg2_b": ("mpeg2video", {}, {"max_b_frames": 2, "gop_size": 12}),
    "vp8": ("libvpx", CLOSED, {}),
    "vp9": ("libvpx-vp9", CLOSED | {"lag-in-frames": "10", "cpu-used": "5"}, {}),
    "mjpeg": ("mjpeg", {}, {"pix_fmt": "yuvj420p"}),
    "wmv": ("wmv2", {}, {}),
    "gif": ("gif", {}, {"pix_fmt": "rgb8"}),
}
