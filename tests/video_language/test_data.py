"""Clips of real small videos with their times, and the batches made of them."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from tiny_video_language_models import tiny

from modeling_siasamrea.data.dataset import VideoRequest
from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoClipDataset, VideoLanguageDataCollator, read_clips


def index_of(frame: torch.Tensor) -> int:
    return round((frame.float().mean().item() - 8) / 6)


def test_clips_are_siamese_and_their_times_true(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=40, fps=8)
    sampler = VideoLanguageSettings(frames_per_clip=5).video_sampler()
    clips = read_clips(sampler, str(path), training=True, seed=3, num_clips=4)
    assert len(clips) == 4
    for frames, seconds, duration in clips:
        assert frames.shape == (5, 3, 48, 64) and frames.dtype == torch.uint8 and duration == 5.0
        assert seconds == [index_of(frame) / 8 for frame in frames]
        assert np.allclose(np.diff(seconds), 1.0)  # 40 frames in 5 of a clip: the same interval in each
    starts = [seconds[0] for _, seconds, _ in clips]
    assert len(set(starts)) == 4 and all(abs(start - starts[0]) <= 0.5 for start in starts)
    (again,) = read_clips(sampler, str(path))
    assert [index_of(frame) for frame in again[0]] == [3, 11, 19, 27, 35]  # evaluation's: centred


def test_times_of_a_span_are_those_of_the_video(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=40, fps=8)
    sampler = VideoLanguageSettings(frames_per_clip=2).video_sampler()
    ((frames, seconds, duration),) = read_clips(sampler, str(path), 2.0, 4.0)
    assert all(2 <= second < 4 for second in seconds) and seconds == [index_of(frame) / 8 for frame in frames]
    assert duration >= 4.0


def test_frames_in_memory_count_as_one_a_second():
    sampler = VideoLanguageSettings(frames_per_clip=3).video_sampler()
    video = np.zeros((9, 24, 32, 3), dtype=np.uint8)
    ((frames, seconds, duration),) = read_clips(sampler, video)
    assert frames.shape == (3, 3, 24, 32) and (seconds, duration) == ([1.0, 4.0, 7.0], 9.0)


def test_times_of_a_varying_rate_are_true(tmp_path):
    path = tmp_path / "v.mkv"
    shown = [0.0, 0.1, 0.2, 0.3, 2.0, 4.0, 4.1, 4.2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index, second in enumerate(shown):
            pixels = np.full((48, 64, 3), 8 + 6 * index, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(1000 * second), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for source in (str(path), {"path": "v.mkv", "bytes": path.read_bytes()}):
        ((frames, seconds, duration),) = read_clips(VideoLanguageSettings(frames_per_clip=4).video_sampler(), source)
        assert seconds == pytest.approx([shown[index_of(frame)] for frame in frames]) and duration >= 4.2


@pytest.fixture
def dataset(tmp_path, write_video) -> VideoClipDataset:
    for name, frames in (("long", 80), ("short", 20), ("brief", 24)):
        write_video(tmp_path / f"{name}.mp4", frames=frames)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    names = ["long", "short", "broken", "brief", "short"]
    questions = [
        VideoQuestion(str(tmp_path / f"{name}.mp4"), f"what {row} ?", f"a {row}", "open_ended", f"q{row}")
        for row, name in enumerate(names)
    ]
    questions += [
        VideoQuestion(str(tmp_path / "short.mp4"), "which ?", 1, "multiple_choice", f"c{row}", tuple("abc"[:number]))
        for row, number in enumerate((3, 2))
    ]
    processor = VideoLanguageProcessor(tiny("qwen3_vl")[1], VideoLanguageSettings(num_clips=3))
    return VideoClipDataset(questions, processor)


@pytest.fixture
def collator() -> VideoLanguageDataCollator:
    return VideoLanguageDataCollator(VideoLanguageProcessor(tiny("qwen3_vl")[1], VideoLanguageSettings(num_clips=3)))


def test_a_training_batch_has_a_part_for_each_number_of_frames(dataset, collator):
    requests = [VideoRequest(rows, epoch=0, num_clips=3) for rows in ((0,), (1, 4), (2,), (3,))]
    batch = collator(dataset.__getitems__(requests))
    assert batch["rows"].tolist() == [0, 1, 4, 3] and batch["task"] == "open_ended"
    assert [row for row, _ in batch["unreadable"]] == [2] and "broken.mp4" in batch["unreadable"][0][1]
    long, brief = batch["parts"]  # ten frames; five, the least
    assert [question.question_id for question in brief["questions"]] == ["q1", "q4", "q3"]
    assert len(long["clips"]) == len(brief["clips"]) == 3
    assert [clip["video_grid_thw"][:, 0].tolist() for clip in (long["clips"][0], brief["clips"][0])] == [[5], [3] * 3]
    assert brief["answer_ids"].shape == (3, 4)
    assert not torch.equal(brief["clips"][0]["pixel_values_videos"], brief["clips"][1]["pixel_values_videos"])


def test_an_evaluation_batch_asks_and_compares(dataset, collator):
    open_ended = collator(dataset.__getitems__([VideoRequest((1, 4)), VideoRequest((3,))]))
    (part,) = open_ended["parts"]
    assert (
        part["prompts"][0]["input_ids"].shape[0] == 3 and len(part["clips"]) == 1 and part["answer_ids"].shape[0] == 3
    )
    choice = collator(dataset.__getitems__([VideoRequest((5, 6))]))
    assert [len(part["answer_ids"]) for part in choice["parts"]] == [3, 2] and choice["rows"].tolist() == [5, 6]


def test_questions_without_answers_are_asked(tmp_path, write_video, collator):
    path = str(write_video(tmp_path / "v.mp4"))
    question = VideoQuestion(path, "what ?", None, "open_ended", "1")
    dataset = VideoClipDataset([question], collator.processor)
    (part,) = collator(dataset.__getitems__([VideoRequest((0,))]))["parts"]
    assert "prompts" in part and "clips" not in part
