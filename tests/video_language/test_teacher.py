"""A teacher that sees more: which frames it is shown, and which settings make one."""

import numpy as np
import pytest
from tiny_video_language_models import tiny

from modeling_siasamrea.data.dataset import VideoRequest
from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoClipDataset
from modeling_siasamrea.video_language.teacher import note_rows_without_span, spans_of, teacher_clips


TEACHER = {"num_clips": 2, "frames_per_clip": 2, "teacher_frames": 6, "reasoning_weights": "siamese"}


class Phases:
    """Stands in for a random generator: the first clip has the first phase, and it is 0."""

    permutation = staticmethod(np.arange)

    def random(self) -> float:
        return 0.0


def clips_by_hand(anchor, times, number, frames, spans=()) -> list[list[int]]:
    return teacher_clips(np.array(anchor), np.array(times), number, frames, spans, Phases()).tolist()


def test_a_teacher_sees_the_anchor_s_frames_and_more_of_the_video():
    # The others of ten frames are 0 1 3 4 5 6 8 9: every second of them, from the first and from the second.
    assert clips_by_hand([2, 7], range(10), 2, 6) == [[0, 2, 3, 5, 7, 8], [1, 2, 4, 6, 7, 9]]
    # A video as short as the anchor repeats its frames.
    assert clips_by_hand([0, 1], range(2), 1, 6) == [[0, 0, 0, 1, 1, 1]]


def test_a_teacher_sees_a_span_densely():
    times = np.arange(20) / 2
    # On screen from 4.2 to 6 seconds: frames 8 (4.0) to 11 (5.5), of which the anchor has 10.
    assert clips_by_hand([0, 10], times, 1, 5, [(4.2, 6.0)]) == [[0, 8, 9, 10, 11]]
    assert clips_by_hand([0, 10], times, 1, 4, [(4.2, 4.3), (9.0, 99.0)]) == [[0, 8, 10, 18]]
    assert clips_by_hand([0, 10], times, 1, 3, [(50.0, 60.0)]) == [[0, 10, 19]]  # the last stays on screen


@pytest.fixture
def dataset(tmp_path, write_video):
    path = str(write_video(tmp_path / "v.mp4", frames=40, fps=8))
    rows = [("1", ((1.0, 1.5),)), ("2", ((4.0, 4.5),)), ("3", ())]
    questions = [VideoQuestion(path, "what ?", "a", "open_ended", name, evidence=spans) for name, spans in rows]

    def make(**settings) -> VideoClipDataset:
        processor = VideoLanguageProcessor(tiny("qwen3_vl")[1], VideoLanguageSettings(**TEACHER | settings))
        return VideoClipDataset(questions, processor)

    return make


def index_of(frame) -> int:
    return round((frame.float().mean().item() - 8) / 6)


def shown(dataset: VideoClipDataset, *rows: int, **request) -> list[list[int]]:
    clips = dataset[VideoRequest(rows, **request)]["clips"]
    for frames, seconds, _ in clips:
        assert seconds == [index_of(frame) / 8 for frame in frames]
    return [[index_of(frame) for frame in frames] for frames, *_ in clips]


def test_the_student_s_frames_are_as_without_a_teacher_and_among_the_teacher_s(dataset):
    training = {"epoch": 0, "seed": 1, "num_clips": 3}
    student, *teachers = shown(dataset(), 0, **training)
    plain = shown(dataset(teacher_frames=None, reasoning_weights="uniform"), 0, **training)
    assert [len(clip) for clip in (student, *teachers)] == [2, 6, 6] and student == plain[0]
    assert teachers[0] != teachers[1] and all(set(student) < set(clip) for clip in teachers)
    assert all(max(np.diff(clip)) <= 14 for clip in teachers)  # 38 other frames in four parts
    assert shown(dataset(), 0) == shown(dataset(teacher_frames=None), 0)  # evaluation has no teacher
    (alone,) = shown(dataset(alpha=0), 0, **training | {"num_clips": 1})
    assert alone == student


def test_questions_that_share_a_teacher_share_its_spans(dataset):
    training = {"epoch": 0, "seed": 1, "num_clips": 2}

    def further(*rows: int) -> list[int]:
        student, teacher = shown(dataset(teacher_span=True), *rows, **training)
        return [index for index in teacher if index not in student]

    assert set(further(0)) <= set(range(8, 12)) and set(further(1)) <= set(range(32, 36))
    both = further(0, 1)
    assert set(both) <= {*range(8, 12), *range(32, 36)} and both[0] < 12 and both[-1] > 31
    assert len({index // 10 for index in further(0, 2)}) >= 3  # the third has no span: the whole video


def test_rows_without_a_span_are_counted_and_named_or_refused(dataset, caplog):
    questions = dataset().questions
    note_rows_without_span(questions)
    assert "1 of 3" in caplog.text and "are 3" in caplog.text
    with pytest.raises(ValueError, match="evidence"):
        note_rows_without_span(questions[2:])
    assert spans_of([VideoQuestion("v", "q", None, "open_ended", "1", evidence=((None, 2.0), (3.0, None)))]) == [
        (0.0, 2.0),
        (3.0, float("inf")),
    ]


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"teacher_frames": 2}, "teacher_frames"),
        ({"frames_per_clip": "adaptive", "teacher_frames": 16}, "teacher_frames"),
        ({"teacher_frames": None, "teacher_span": True}, "teacher_span"),
        ({"reasoning_weights": "uniform"}, "reasoning_weights"),
        ({"sampling": "copies"}, "sampling"),
    ],
)
def test_a_teacher_that_makes_no_sense_is_refused(changed, named):
    with pytest.raises(ValueError, match=named):
        VideoLanguageSettings(**TEACHER | changed)
