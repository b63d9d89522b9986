"""The sample data set: its questions fit its videos, and cannot be answered without them."""

import json
from collections import Counter

import numpy as np
import pytest

from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.evaluation.baselines import question_only_baseline
from modeling_siasamrea.evaluation.scores import score_predictions
from modeling_siasamrea.preparation import sample_data
from modeling_siasamrea.processors.video_decoding import decode_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"train_videos": 6, "validation_videos": 2, "test_videos": 2, "event_seconds": 0.4}
    return sample_data.make_sample_data(tmp_path_factory.mktemp("data"), **sizes)


def many_questions(split: str, videos: int, **parameters):
    data = sample_data.SampleData(**parameters)
    rows = [row for index in range(videos) for row in sample_data.ask(sample_data.write_story(data, split, index))]
    return load_video_questions(rows)


def test_rows_name_readable_h264_videos_of_the_stated_length(folder):
    import av

    for split in ("train", "validation", "test"):
        for question in load_video_questions(folder / f"{split}.jsonl", folder):
            with av.open(question.video) as container:
                assert container.streams.video[0].codec_context.name == "h264"
                assert container.streams.video[0].frames == 25
                assert container.streams.video[0].average_rate == 5


def test_equal_parameters_make_equal_videos_and_splits_share_none(folder, tmp_path):
    again = sample_data.make_sample_data(
        tmp_path / "again", train_videos=6, validation_videos=2, test_videos=2, event_seconds=0.4
    )
    assert (again / "train.jsonl").read_text() == (folder / "train.jsonl").read_text()
    first, second = ((place / "videos" / "test_00001.mp4").read_bytes() for place in (folder, again))
    assert first == second
    seeds = [
        sample_data.write_story(sample_data.SampleData(), split, i).seed
        for split in sample_data.SPLITS
        for i in range(50)
    ]
    assert len(set(seeds)) == len(seeds)
    # What is there is not written anew, and other parameters do not overwrite it.
    sample_data.make_sample_data(again, train_videos=6, validation_videos=2, test_videos=2, event_seconds=0.4)
    with pytest.raises(ValueError, match="other parameters"):
        sample_data.make_sample_data(again, train_videos=7, validation_videos=2, test_videos=2)


def test_the_video_shows_what_the_story_tells(folder):
    data = sample_data.SampleData(event_seconds=0.4)
    for index in range(6):
        story = sample_data.write_story(data, "train", index)
        frames, _ = decode_frames(
            folder / "videos" / story.name, lambda metadata: np.arange(metadata.total_num_frames)
        )
        brightness = frames.float().amin(dim=1).flatten(1)  # white pixels are bright in all channels
        white = (brightness > 180).sum(dim=1)  # (frames,)
        shown = range(*story.digit_frames)
        flashes = {
            frame
            for action, span in zip(story.actions, story.action_frames)
            if action == "flash"
            for frame in range(*span)
        }
        for frame in range(len(frames)):
            assert (white[frame] > 50) == (frame in shown or frame in flashes), (story, frame)


def test_actions_follow_each_other_without_overlap():
    for index in range(100):
        story = sample_data.write_story(sample_data.SampleData(), "train", index)
        ends = [end for _, end in story.action_frames]
        starts = [start for start, _ in story.action_frames]
        assert all(end <= start for end, start in zip(ends, starts[1:]))
        assert starts[0] >= 0 and ends[-1] <= 25


@pytest.mark.parametrize("parameters", [{}, {"event_seconds": 0.4}])
def test_questions_alone_tell_nothing(parameters):
    train, test = (many_questions(split, 300, **parameters) for split in ("train", "test"))
    scores = score_predictions(test, question_only_baseline(train, test))
    # Six colours, four shapes, five digits; five candidates; four counts.
    chances = (1 / 5, (1 / 6 + 1 / 4) / 2) if "event_seconds" in parameters else (1 / 6, 1 / 4)
    assert scores["open_ended_accuracy"] < np.mean(chances) + 0.06
    assert scores["multiple_choice_accuracy/action"] < 1 / 5 + 0.09
    assert scores["multiple_choice_accuracy/transition"] < 1 / 5 + 0.09
    assert scores["count_accuracy"] < 1 / 4 + 0.09


def test_every_kind_of_question_is_asked_and_the_right_candidate_has_no_place_of_its_own():
    questions = many_questions("train", 300)
    types = Counter(question.question_type for question in questions)
    assert types == {"color": 300, "shape": 300, "action": 150, "count": 150, "transition": 300}
    with_digit = Counter(question.question_type for question in many_questions("train", 20, event_seconds=0.4))
    assert with_digit == {"what": 40, "action": 10, "count": 10, "transition": 20}
    places = Counter(question.answer for question in questions if question.task == "multiple_choice")
    assert set(places) == set(range(5)) and min(places.values()) > 0.7 * 450 / 5


def test_too_short_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match="20 frames; got size 64, 10 frames"):
        sample_data.make_sample_data(tmp_path, seconds=2.0)
    for wrong, said in (
        ({"train_video": 4}, "Did you mean 'train_videos'"),
        ({"size": "64"}, "must be a number; got '64'"),
    ):
        with pytest.raises(ValueError, match=said):
            sample_data.make_sample_data(tmp_path, **wrong)


def test_the_description_tells_version_parameters_and_hash(folder):
    description = json.loads((folder / "dataset.json").read_text())
    assert description["generator_version"] == sample_data.GENERATOR_VERSION
    assert description["parameters"]["train_videos"] == 6
    assert len(description["annotations_sha256"]) == 64
