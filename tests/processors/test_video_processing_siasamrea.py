"""The video processor: shapes, sampling, resizing, ClipBERT's recipe, and frames that travel as uint8."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from transformers import AutoVideoProcessor

from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames
from modeling_siasamrea.processors.video_processing_siasamrea import SiaSamReaVideoProcessor


RAW = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}


def shown(frames: torch.Tensor) -> list:
    """The indices that numbered frames `(..., 3, height, width)` show in their top left corner."""
    return ((frames[..., 0, 0, 0].float() - 8) / 6).round().int().tolist()


@pytest.fixture
def video(write_video, tmp_path):
    return write_video(tmp_path / "video.mp4")  # 40 frames, 5 s, 64 x 48 pixels


def test_training_gives_the_anchor_and_siamese_clips(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, num_clips=4, frames_per_clip=5)
    batch = processor(video, training=True, seed=3, **RAW)
    assert batch["pixel_values_videos"].shape == (1, 4, 5, 3, 32, 32)
    clips = np.array(shown(batch["pixel_values_videos"][0]))
    assert (np.diff(clips, axis=1) == 8).all() and len(np.unique(clips[:, 0])) == 4
    again = processor([video, video], training=True, seed=[3, 4], **RAW)["pixel_values_videos"]
    assert torch.equal(again[0], batch["pixel_values_videos"][0]) and not torch.equal(again[0], again[1])


def test_evaluation_gives_the_centred_anchor(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=5)
    assert shown(processor(video, **RAW)["pixel_values_videos"]) == [[[3, 11, 19, 27, 35]]]
    ensemble = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=5, num_eval_clips=3)
    assert len(shown(ensemble(video, **RAW)["pixel_values_videos"])[0]) == 3


def test_another_anchor_start_and_shuffled_frames(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=4)

    def clip(**sampling) -> list[int]:
        return shown(processor(video, seed=1, **sampling, **RAW)["pixel_values_videos"])[0][0]

    # Interval 10, starts 0 .. 9, of which 4 is the centre.
    assert [clip(eval_offset=(k, 3))[0] for k in range(3)] == [4, 7, 0]
    assert clip(shuffle_frames=True) != clip() and sorted(clip(shuffle_frames=True)) == clip()
    assert clip(shuffle_frames=True, training=True) == clip(training=True)


def test_a_span_is_sampled_from_its_seconds(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=2)
    batch = processor([video, video], start=[1.0, None], end=[2.0, None], **RAW)
    assert shown(batch["pixel_values_videos"]) == [[[9, 13]], [[9, 29]]]


def test_adaptive_clips_of_different_length_are_padded_and_masked(write_video, tmp_path):
    videos = [write_video(tmp_path / f"{frames}.mp4", frames=frames) for frames in (56, 8)]  # 7 s and 1 s
    batch = SiaSamReaVideoProcessor(size={"longest_edge": 32})(videos, **RAW)
    assert batch["pixel_values_videos"].shape[:3] == (2, 1, 7)
    assert batch["frame_mask"].tolist() == [[1] * 7, [1] * 5 + [0] * 2]
    assert not batch["pixel_values_videos"][1, :, 5:].any()


def test_the_longer_side_is_resized_and_the_rest_padded_below(video):
    frames = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=5)(video, **RAW)["pixel_values_videos"]
    assert frames.dtype == torch.uint8
    assert frames[..., :24, :].min() > 0 and not frames[..., 24:, :].any()  # 64 x 48 to 32 x 24


def test_the_shorter_side_is_resized_and_the_rest_cropped(video):
    processor = SiaSamReaVideoProcessor(do_center_crop=True, crop_size={"height": 24, "width": 24}, do_pad=False)
    frames = processor(video, size=24, crop_size=24, **RAW)["pixel_values_videos"]  # an edge, and a square
    assert frames.shape[-2:] == (24, 24) and frames.min() > 0


def test_whole_pixels_normalised_later_are_the_same_numbers(footage):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 64}, channel_order="bgr")
    at_once = processor(footage, return_tensors="pt")["pixel_values_videos"]
    later = processor.normalize_frames(processor(footage, **RAW)["pixel_values_videos"])
    assert torch.equal(at_once, later) and at_once.dtype == torch.float32


def clipbert_recipe(frames: torch.Tensor, size: int) -> torch.Tensor:
    """Longer side to `size`, shorter truncated, bilinear without antialiasing, padded, mean taken, RGB to BGR."""
    height, width = frames.shape[-2:]
    scale = size / max(height, width)
    shape = (size, int(width * scale)) if height >= width else (int(height * scale), size)
    resized = torch.nn.functional.interpolate(frames.float(), shape, mode="bilinear", align_corners=False)
    padded = torch.zeros(len(frames), 3, size, size)
    padded[..., : shape[0], : shape[1]] = resized
    return (padded - torch.tensor([123.675, 116.28, 103.53])[:, None, None]).flip(1)


def test_clipberts_preprocessing(footage):
    processor = SiaSamReaVideoProcessor(
        size={"longest_edge": 100},
        frames_per_clip=3,
        image_mean=[123.675, 116.28, 103.53],
        image_std=[1.0, 1.0, 1.0],
        do_rescale=False,
        channel_order="bgr",
        antialias=False,
        round_frames=False,
    )
    frames, _ = decode_frames(footage, [24, 74, 124])
    ours = processor(footage, return_tensors="pt")["pixel_values_videos"][0, 0]
    torch.testing.assert_close(ours, clipbert_recipe(frames, 100), atol=1e-3, rtol=0)


def test_clipberts_windows_last_frames_over_fps_seconds(video):
    processor = SiaSamReaVideoProcessor(
        size={"longest_edge": 32}, sampling="random_windows", frames_per_clip=2, fps=1, num_eval_clips=3
    )
    # windows of 2 s, 16 of the 40 frames, from (40 - 16) * i / 3
    assert shown(processor(video, **RAW)["pixel_values_videos"]) == [[[0, 15], [8, 23], [16, 31]]]


def test_sources_other_than_files(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=5)
    frames, _ = decode_frames(video, range(40))
    expected = processor(video, **RAW)["pixel_values_videos"]
    array = frames.permute(0, 2, 3, 1).numpy()
    for source in (str(video), array, [array], frames, list(array)):
        assert torch.equal(processor(source, **RAW)["pixel_values_videos"], expected)
    assert processor([array, array], **RAW)["pixel_values_videos"].shape[0] == 2
    every = processor(array, do_sample_frames=False, **RAW)["pixel_values_videos"]
    assert every.shape[:3] == (1, 1, 40)


def test_sampled_clips_for_other_models(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, num_clips=3, frames_per_clip=5)
    sampled = processor.sample_clips_of(video, training=True, seed=3)
    assert sampled.frames.shape[1:] == (3, 48, 64) and sampled.frames.dtype == torch.uint8
    clips = sampled.frames[sampled.positions]  # (clips, frames, 3, height, width)
    assert shown(clips) == sampled.indices.tolist() and len(sampled.frames) == len(np.unique(sampled.indices))
    np.testing.assert_allclose(sampled.times, sampled.indices / 8)
    assert sampled.metadata.timestamps == pytest.approx(sampled.times.ravel().tolist())
    batch = processor(video, training=True, seed=3, **RAW)
    assert shown(batch["pixel_values_videos"][0]) == sampled.indices.tolist()
    part = processor.sample_clips_of(video, start=2.0, end=4.0, frames_per_clip=2)
    assert shown(part.frames[part.positions]) == (part.indices + 16).tolist()
    np.testing.assert_allclose(part.times, (part.indices + 16) / 8)
    halved = processor.sample_clips_of(video, transform=lambda few: few[..., ::2, ::2])
    assert halved.frames.shape[2:] == (24, 32)


def test_metadata_of_the_sampled_frames(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=5)
    batch = processor([video, video], start=[None, 1.0], return_metadata=True, **RAW)
    whole, part = batch["video_metadata"]
    assert (whole.total_num_frames, whole.fps, whole.duration) == (40, 8, 5.0)
    assert whole.frames_indices == [3, 11, 19, 27, 35]
    assert part.timestamps == pytest.approx([(index + 8) / 8 for index in part.frames_indices])
    assert "video_metadata" not in processor(video, **RAW)


def test_adaptive_clips_count_seconds_and_not_frames(tmp_path):
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(60):  # 1 s at 50 frames a second, then a frame a second
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = (index * 20 if index < 50 else (index - 49) * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    batch = SiaSamReaVideoProcessor(size={"longest_edge": 32})(
        [path, path, path], start=[0, 0, 2], end=[20, 1, 20], **RAW
    )
    assert batch["frame_mask"].sum(dim=1).tolist() == [10, 5, 8]  # about 10 s, 1 s and 8 s


def test_large_frames_are_resized_a_few_at_a_time(write_video, tmp_path):
    """Sixteen frames of full HD are 100 MB; at most 32 MB of them are held at full size."""
    path = write_video(tmp_path / "large.mkv", frames=16, codec="mpeg4", height=1080, width=1920)
    together = []

    def shrink(few: torch.Tensor) -> torch.Tensor:
        together.append(len(few))
        return few[..., ::60, ::60]

    processor = SiaSamReaVideoProcessor(frames_per_clip=16)
    frames = processor.sample_clips_of(path, transform=shrink).frames
    assert torch.equal(frames, decode_frames(path, range(16))[0][..., ::60, ::60])
    assert sum(together) == 16 and max(together) * 1920 * 1080 * 3 <= 1 << 25


def test_save_and_load(tmp_path, video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 48}, num_clips=5, sampling="copies", window=0.25)
    processor.save_pretrained(tmp_path / "saved")
    loaded = AutoVideoProcessor.from_pretrained(tmp_path / "saved")
    assert loaded.to_dict() == processor.to_dict() and type(loaded) is SiaSamReaVideoProcessor
    arguments = {"training": True, "seed": 1, "return_tensors": "pt"}
    ours, theirs = (each(video, **arguments)["pixel_values_videos"] for each in (processor, loaded))
    assert torch.equal(ours, theirs)


def test_bad_input_gets_a_sentence(video):
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32})
    with pytest.raises(VideoDecodingError, match="there is no such file"):
        processor("nowhere.mp4")
    with pytest.raises(ValueError, match="needs a seed for each video"):
        processor(video, training=True)
    with pytest.raises(ValueError, match=r"start must be one for all videos, or one for each \(1\); got 3"):
        processor(video, start=[0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("channel_order", {"channel_order": "rbg"}),
        ("sampling", {"sampling": "anywhere"}),
        ("num_clips", {"num_clips": 0}),
        ("num_clips", {"num_clips": 2.5}),
        ("frames_per_clip", {"frames_per_clip": 0}),
        ("min_frames is 17", {"min_frames": 17}),
        ("window", {"window": float("nan")}),
        ("crop_size", {"do_center_crop": True}),
        ("num_frames", {"num_frames": 5}),
        ("resample", {"resample": 3}),
        ("do_sample_frames", {"eval_offset": (0, 2), "do_sample_frames": False}),
        ("frame_per_clip.* did you mean 'frames_per_clip'", {"frame_per_clip": 4}),
        ("no setting 'longest_edge'", {"longest_edge": 224}),
    ],
)
def test_a_setting_that_means_nothing_is_named(name, settings):
    with pytest.raises(ValueError, match=name):
        SiaSamReaVideoProcessor(**settings)
    with pytest.raises(ValueError, match=name):
        SiaSamReaVideoProcessor()(np.zeros((4, 32, 48, 3), np.uint8), **settings)


@pytest.mark.parametrize("size", [{"longest_edge": -5}, {"longest_egde": 224}, {"height": 224}])
def test_a_size_that_means_nothing_is_named(size):
    with pytest.raises(ValueError, match="size"):
        SiaSamReaVideoProcessor(size=size)(np.zeros((4, 32, 48, 3), np.uint8))


def test_one_number_is_the_shorter_side(video):
    processor = SiaSamReaVideoProcessor(size=24, do_pad=False)
    assert processor(video, **RAW)["pixel_values_videos"].shape[-2:] == (24, 32)


def test_settings_of_a_folder_are_checked(tmp_path):
    SiaSamReaVideoProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'channel_order'"):
        SiaSamReaVideoProcessor.from_pretrained(tmp_path, chanel_order="bgr")
    (file,) = tmp_path.glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"window": -1}))
    with pytest.raises(ValueError, match="window"):
        SiaSamReaVideoProcessor.from_pretrained(tmp_path)


def test_pixels_of_the_chosen_image_encoder(tmp_path):
    from transformers import ConvNextImageProcessor

    ConvNextImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(tmp_path)
    processor = SiaSamReaVideoProcessor.from_image_encoder(str(tmp_path), image_std=[1.0, 1.0, 1.0], num_clips=4)
    assert list(processor.image_mean) == [0.1, 0.2, 0.3] and list(processor.image_std) == [1.0, 1.0, 1.0]
    assert processor.num_clips == 4
    (tmp_path / "preprocessor_config.json").unlink()
    assert list(SiaSamReaVideoProcessor.from_image_encoder(str(tmp_path)).image_mean) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("size", "antialias"), [(40, True), (200, True), (40, False)])
@pytest.mark.parametrize("round_frames", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_resized_frames_are_those_of_the_plain_definition(size, antialias, round_frames, channels_last):
    """However many frames are resized, in whatever order their values lie: ties are rounded as they were, too."""
    video = np.random.default_rng(0).choice(np.array([0, 17, 254, 255], dtype=np.uint8), (9, 60, 80, 3))
    frames = torch.from_numpy(video).permute(0, 3, 1, 2)  # channels last in memory
    if not channels_last:
        frames = frames.contiguous()
    plain = torch.nn.functional.interpolate(
        frames.float(), (size * 3 // 4, size), mode="bilinear", align_corners=False, antialias=antialias
    )
    if round_frames:
        plain = plain.round().clamp(0, 255).to(torch.uint8)
    processor = SiaSamReaVideoProcessor(
        size={"longest_edge": size}, antialias=antialias, round_frames=round_frames, do_sample_frames=False
    )
    source = video if channels_last else frames
    ours = processor([source], do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values_videos"][0, 0]
    assert ours.dtype == plain.dtype and torch.equal(ours[..., : size * 3 // 4, :], plain)
    assert not ours[..., size * 3 // 4 :, :].any()


def test_normalising_leaves_its_argument_as_it_is():
    frames = torch.full((2, 3, 4, 4), 255.0)
    normalised = SiaSamReaVideoProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).normalize_frames(frames)
    assert (frames == 255).all() and torch.equal(normalised, torch.full((2, 3, 4, 4), 2.0))
