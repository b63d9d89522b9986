"""Frames that are there already: arrays, tensors, images and image files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames
from modeling_siasamrea.processors.video_processing_siasamrea import SiaSamReaVideoProcessor


FRAMES = np.stack([np.full((8, 10, 3), 40 * index, dtype=np.uint8) for index in range(6)])


def picked(video) -> list[int]:
    """What frames 5, 2 and 5 show."""
    frames, metadata = decode_frames(video, [5, 2, 5])
    assert frames.shape == (3, 3, 8, 10) and frames.dtype == torch.uint8
    assert metadata.total_num_frames == 6 and metadata.fps is None
    return frames[:, 1, 4, 5].tolist()


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for path, frame in zip(paths, FRAMES):
        Image.fromarray(frame).save(path)
    return paths


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "CMYK", "YCbCr"])
def test_images_of_other_modes(mode):
    assert picked([Image.fromarray(frame).convert(mode) for frame in FRAMES]) == [200, 80, 200]


def test_arrays_in_every_layout():
    first = FRAMES.transpose(0, 3, 1, 2)
    backwards = FRAMES[::-1][::-1]
    channels_last = torch.from_numpy(first.copy()).contiguous(memory_format=torch.channels_last)
    for video in (first, backwards, torch.from_numpy(FRAMES), channels_last, list(first), tuple(FRAMES)):
        assert picked(video) == [200, 80, 200]


def test_image_files_of_which_only_the_wanted_are_opened(files):
    files[0].write_bytes(b"no image")
    files[1].unlink()
    dictionaries = [{"path": str(path), "bytes": None} for path in files]
    contents = [b"", b"", *(path.read_bytes() for path in files[2:])]
    for video in (
        files,
        tuple(map(str, files)),
        dictionaries,
        contents,
        [io.BytesIO(content) for content in contents],
    ):
        assert picked(video) == [200, 80, 200]
    mixed = [None, None, files[2], None, None, torch.from_numpy(FRAMES[5])]
    assert picked(mixed) == [200, 80, 200]


def test_a_turned_photograph_is_shown_upright(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert decode_frames([tmp_path / "photo.jpg"], [0])[0].shape == (1, 3, 20, 10)


@pytest.mark.parametrize(
    ("video", "sentence"),
    [
        ([], "it has no frames"),
        (FRAMES[:0], "it has no frames"),
        (FRAMES[:, :0], r"must have the shape .*; got \(6, 0, 10, 3\)"),
        (FRAMES / 255, "its frames must be uint8, from 0 to 255; got float64"),
        (FRAMES > 3, "must be uint8, from 0 to 255; got bool"),
        (FRAMES[0], r"must have the shape .*; got \(8, 10, 3\)"),
        (FRAMES[..., :1], r"got \(6, 8, 10, 1\)"),
        (np.concatenate([FRAMES, FRAMES[..., :1]], axis=-1), r"got \(6, 8, 10, 4\)"),
        (np.array(["a.png", "b.png"]), r"must have the shape .*; got \(2,\)"),
        ([FRAMES[0, ..., 0]], r"frame 0 must have the shape \(height, width, 3\) or .* got \(8, 10\)"),
        ([FRAMES[0] / 255], "frame 0 must be uint8"),
        ([FRAMES], r"frame 0 must have the shape .* got \(6, 8, 10, 3\)"),
        ([3], "frame 0 is a int, not an image or an image file"),
        ([["a.png"]], "frame 0 is a list, not an image or an image file"),
        (["nowhere.png"], "nowhere.png: there is no such file"),
        ([__file__], "test_frames_in_memory.py: frame 0 is no image that can be read"),
        ([Image.new("I;16", (10, 8))], "frame 0 must have 8 bits .* mode is 'I;16'"),
        ([Image.new("F", (10, 8))], "its mode is 'F'"),
    ],
)
def test_everything_else_gets_one_sentence(video, sentence):
    with pytest.raises(VideoDecodingError, match=sentence):
        decode_frames(video, [0])


def test_frames_of_different_sizes_are_named():
    with pytest.raises(VideoDecodingError, match=r"one height and width; got \[\(8, 10\), \(8, 20\)\]"):
        decode_frames([FRAMES[0], FRAMES[1], Image.new("RGB", (20, 8))], [2, 0])


def test_frames_have_no_seconds():
    with pytest.raises(VideoDecodingError, match="frames have no time for start and end; cut the frames instead"):
        decode_frames(FRAMES, [0], end=1.0)


def test_what_is_one_video_and_what_are_several(files):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 16}, frames_per_clip=3)
    names = list(map(str, files))
    for videos, count in (
        (FRAMES, 1),
        ([FRAMES, FRAMES], 2),
        (np.stack([FRAMES, FRAMES]), 2),
        (list(FRAMES), 1),
        ([list(FRAMES), names], 2),
        ([names], 1),
        ([names, names], 2),
    ):
        assert processor(videos, return_tensors="pt")["pixel_values_videos"].shape[0] == count
    with pytest.raises(ValueError, match="the list of videos is empty"):
        processor([])
