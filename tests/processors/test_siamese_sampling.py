"""Sampling: properties for videos of up to 10 000 frames, and starts worked by hand."""

import numpy as np
import pytest

from modeling_siasamrea.processors.siamese_sampling import adaptive_frames, sample_clips, shuffle_frames


def sample(length: int, seed: int = 0, training: bool = True, clips: int = 9, frames: int = 8, **kwargs) -> np.ndarray:
    generator = np.random.default_rng(seed) if training else None
    return sample_clips(
        length, num_clips=clips, frames_per_clip=frames, training=training, generator=generator, **kwargs
    )


@pytest.mark.parametrize(("clips", "frames"), [(9, 5), (9, 16), (2, 8), (13, 16)])
def test_properties_for_many_lengths(clips, frames):
    for length in [*range(1, 400), *range(400, 10_001, 97)]:
        indices = sample(length, seed=length, clips=clips, frames=frames)
        assert indices.shape == (clips, frames) and indices.min() >= 0 and indices.max() < length
        interval = max(1, length // frames)
        starts = indices[:, 0]
        available = max(1, length - (frames - 1) * interval)
        assert len(np.unique(starts)) == min(clips, available)
        if length >= frames:
            assert (np.diff(indices, axis=1) == interval).all()
        if length > 4 * clips * frames:  # the window holds enough starts and need not widen
            assert np.abs(starts - starts[0]).max() <= np.ceil(0.5 * interval)


def test_clips_see_the_whole_video():
    indices = sample(1000, frames=8)
    assert (indices[:, 0] < 125).all() and (indices[:, -1] >= 875).all()


def test_the_anchor_is_uniform_over_its_range():
    starts = [sample(83, seed=seed)[0, 0] for seed in range(1300)]  # interval 10, starts 0 to 12
    counts = np.bincount(starts, minlength=13)
    assert len(counts) == 13 and counts.min() > 60 and counts.max() < 145


def test_a_seed_repeats_and_another_differs():
    np.testing.assert_array_equal(sample(300, seed=4), sample(300, seed=4))
    assert (sample(300, seed=4) != sample(300, seed=5)).any()


def test_evaluation_centres_the_anchor_without_randomness():
    # 103 frames in 8: interval 12, starts 0 .. 18, centre 9
    np.testing.assert_array_equal(sample(103, training=False, clips=1), [9 + 12 * np.arange(8)])
    np.testing.assert_array_equal(sample(103, training=False), sample(103, training=False))
    starts = sample(103, training=False, clips=5)[:, 0]
    np.testing.assert_array_equal(starts, [9, 3, 7, 11, 15])  # spread over the window of 6 on each side


def test_anchor_starts_are_spread_from_the_centre():
    # 103 frames in 8: starts 0 .. 18. A third and two thirds of 19 starts on from the centre 9, over the end: 21 -> 2.
    starts = [sample(103, training=False, clips=1, offset=(k, 3))[0, 0] for k in range(3)]
    assert starts == [9, 15, 2]
    assert [sample(103, training=False, clips=1, offset=(k, 2))[0, 0] for k in range(2)] == [9, 18]
    # Siamese clips go with their anchor.
    assert sample(103, training=False, clips=3, offset=(1, 3))[:, 0].tolist() == [15, 9, 18]
    # ClipBERT's windows: the 2 of 4 clips' places that two clips alone do not have.
    windows = {"mode": "random_windows", "window_frames": 100, "clips": 2, "frames": 2, "training": False}
    assert sample(300, **windows)[:, 0].tolist() == [0, 100]
    assert sample(300, **windows, offset=(1, 2))[:, 0].tolist() == [50, 150]


@pytest.mark.parametrize("offsets", [1, 2, 3, 8, 11])
def test_anchor_starts_differ_where_the_video_has_enough(offsets):
    for length in range(1, 100):
        starts = {sample(length, training=False, clips=1, offset=(k, offsets))[0, 0] for k in range(offsets)}
        available = max(1, length - 7 * max(1, length // 8))
        assert len(starts) == min(offsets, available) and max(starts) < available
        assert sample(length, training=False, clips=1)[0, 0] in starts  # the centred anchor


def test_shuffled_frames_are_those_of_the_clip_in_another_order():
    clips = np.array([[4, 14, 24], [5, 15, 25]])
    for seed in range(40):
        shuffled = shuffle_frames(clips, seed)
        np.testing.assert_array_equal(np.sort(shuffled), clips)
        assert (shuffled != clips).any() and (shuffled[1] == shuffled[0] + 1).all()
        np.testing.assert_array_equal(shuffled, shuffle_frames(clips, seed))
    assert shuffle_frames(clips[:, :1], 0).tolist() == [[4], [5]]


def test_an_offset_outside_its_number_is_refused():
    with pytest.raises(ValueError, match="k from 0 to K - 1; got \\(3, 3\\)"):
        sample(103, training=False, offset=(3, 3))


def test_a_one_frame_video_repeats_its_frame():
    assert (sample(1) == 0).all()


def test_copies_repeat_the_anchor():
    indices = sample(300, mode="copies")
    assert (indices == indices[0]).all()


def test_clipberts_windows():
    indices = sample(300, frames=4, mode="random_windows", window_frames=50)
    np.testing.assert_array_equal(indices - indices[:, :1], np.tile([0, 16, 32, 49], (9, 1)))
    assert len(np.unique(indices[:, 0])) > 5
    at_inference = sample(300, training=False, clips=4, frames=2, mode="random_windows", window_frames=100)
    np.testing.assert_array_equal(at_inference, [[0, 99], [50, 149], [100, 199], [150, 249]])
    np.testing.assert_array_equal(sample(3, frames=3, mode="random_windows", window_frames=100)[0], [0, 1, 2])


def test_adaptive_frames():
    assert [adaptive_frames(seconds) for seconds in (0.04, 5.2, 9.6, 180)] == [5, 5, 10, 16]


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"length": 0}, "num_video_frames, .* must be 1 or more; got .0, "),
        ({"length": 9, "mode": "dense"}, "no sampling mode 'dense'"),
        ({"length": 9, "mode": "random_windows"}, "needs window_frames"),
    ],
)
def test_bad_arguments_get_a_sentence(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        sample(**kwargs)


def test_training_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="needs a random generator"):
        sample_clips(9, num_clips=2, frames_per_clip=2, training=True)
