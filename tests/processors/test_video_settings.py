"""Settings of the video processor that mean nothing are refused, wherever they come in."""

import json

import numpy as np
import pytest

from modeling_siasamrea import SiaSamReaVideoProcessor


NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"channel_order": "rbg"}, "channel_order must be one of 'rgb', 'bgr'; got 'rbg'"),
        ({"sampling": "siames"}, "sampling must be one of 'siamese', .*got 'siames'"),
        ({"size": {"longest_edge": -5}}, "longest_edge of size must be a whole number of pixels from 1; got -5"),
        ({"size": {"longest_edge": 0}}, "longest_edge of size"),
        ({"size": {"longest_edge": 22.5}}, "longest_edge of size"),
        ({"size": {"longest_egde": 224}}, "size must have the form .*longest_egde"),
        ({"size": {"height": 224}}, "size must have the form"),
        ({"size": "large"}, "size must have the form .*'large'"),
        ({"crop_size": {"height": 0, "width": 8}, "do_center_crop": True}, "height of crop_size"),
        ({"do_center_crop": True}, "do_center_crop needs crop_size"),
        ({"num_clips": 0}, "num_clips must be 1 or more; got 0"),
        ({"num_clips": 2.5}, "num_clips must be a whole number; got 2.5"),
        ({"num_eval_clips": 0}, "num_eval_clips must be 1 or more"),
        ({"frames_per_clip": 0}, 'frames_per_clip must be "adaptive" or a whole number from 1; got 0'),
        ({"frames_per_clip": "adaptiv"}, "frames_per_clip .*'adaptiv'"),
        ({"min_frames": 9, "max_frames": 4}, "min_frames is 9, more than max_frames, 4"),
        ({"min_frames": 17}, "min_frames is 17, more than max_frames, 16"),
        ({"min_frames": 0}, "min_frames must be 1 or more"),
        ({"window": -0.5}, "window must be 0 or more; got -0.5"),
        ({"window": NAN}, "window must be a finite number; got nan"),
        ({"fps": 0}, "fps must be above 0"),
        ({"rescale_factor": NAN}, "rescale_factor must be a finite number"),
        ({"rescale_factor": 0.0}, "rescale_factor must be above 0"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std must be above 0"),
        ({"image_std": [0.5, NAN, 0.5]}, "image_std must be three finite numbers"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be three finite numbers"),
        ({"resample": 3}, "resample must be 2"),
        ({"resample": "bilinear"}, "resample must be 2"),
        ({"image_mean": [True, True, True]}, "image_mean must be three finite numbers"),
        ({"do_resize": "no"}, "do_resize must be True or False; got 'no'"),
        ({"do_normalize": 3}, "do_normalize must be True or False; got 3"),
        ({"round_frames": "y"}, "round_frames must be True or False"),
        ({"num_frames": 5}, "num_frames cannot be 5.*frames_per_clip"),
        ({"do_convert_rgb": False}, "do_convert_rgb cannot be False"),
        ({"data_format": "channels_last"}, "data_format cannot be 'channels_last'"),
        ({"longest_edge": 224}, r'no setting .longest_edge.. Did you mean size={"longest_edge": ...}'),
        ({"frame_per_clip": 4}, "no setting 'frame_per_clip'. Did you mean 'frames_per_clip'"),
        ({"chanel_order": "bgr"}, "Did you mean 'channel_order'"),
    ],
)
def test_a_setting_that_means_nothing_gets_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaVideoProcessor(**settings)
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaVideoProcessor()(np.zeros((4, 32, 48, 3), np.uint8), **settings)


def test_an_unknown_argument_of_the_processor_is_refused(processor, tmp_path, write_video):
    video = write_video(tmp_path / "video.mp4", frames=4)
    with pytest.raises(ValueError, match="SiaSamReaProcessor has no setting 'max_lenght'. Did you mean 'max_length'"):
        processor(videos=video, text="what ?", max_lenght=4)
    assert processor(videos=video, text="what ?", max_length=4, num_eval_clips=2)["pixel_values_videos"].shape[1] == 2


def test_settings_are_checked_wherever_they_come_in(tmp_path, write_video):
    video = write_video(tmp_path / "video.mp4", frames=4)
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 32})
    with pytest.raises(ValueError, match="Did you mean 'num_clips'"):
        processor.num_clip = 3
    with pytest.raises(ValueError, match="Did you mean 'num_eval_clips'"):
        processor(video, num_evaluation_clips=3)
    processor.channel_order = "rbg"
    with pytest.raises(ValueError, match="channel_order must be one of"):
        processor(video)
    with pytest.raises(ValueError, match="channel_order must be one of"):
        processor.check_settings()
    processor.channel_order = "bgr"
    processor.save_pretrained(tmp_path)
    assert SiaSamReaVideoProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()
    with pytest.raises(ValueError, match="Did you mean 'channel_order'"):
        SiaSamReaVideoProcessor.from_pretrained(tmp_path, chanel_order="bgr")
    with pytest.raises(ValueError, match='Did you mean size={"longest_edge": ...}'):
        SiaSamReaVideoProcessor.from_pretrained(tmp_path, longest_edge=32)
    (file,) = tmp_path.glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"window": -1}))
    with pytest.raises(ValueError, match="window must be 0 or more"):
        SiaSamReaVideoProcessor.from_pretrained(tmp_path)
