"""Clips of real small videos with their times, and the batches made of them."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from tiny_video_language_models import tiny
from transformers import pipeline

from modeling_siasamrea.data.dataset import VideoRequest
from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language import pipeline as pipeline_file
from modeling_siasamrea.video_language.data import (
    VideoClipDataset,
    VideoLanguageDataCollator,
    read_clips,
)
from modeling_siasamrea.video_language.trainer import VideoLanguageTrainer, VideoLanguageTrainingArguments


def sampler_of(**settings) -> VideoLanguageProcessor:
    return VideoLanguageProcessor(tiny("qwen3_vl")[1], VideoLanguageSettings(**settings))


def index_of(frame: torch.Tensor) -> int:
    return round((frame.float().mean().item() - 8) / 6)


def test_clips_are_siamese_and_their_times_true(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=40, fps=8)
    sampler = sampler_of(frames_per_clip=5)
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


def test_frames_per_second_of_adaptive_clips(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=40, fps=8)
    sampler = sampler_of(fps=2, max_frames=768)
    clips = read_clips(sampler, str(path), training=True, seed=3, num_clips=3)
    assert [len(seconds) for _, seconds, _ in clips] == [10] * 3  # of five seconds
    assert all(np.allclose(np.diff(seconds), 0.5) for _, seconds, _ in clips)
    ((_, seconds, _),) = read_clips(sampler_of(fps=2, max_frames=7), str(path))
    assert len(seconds) == 7


def test_training_evaluation_and_pipeline_see_the_same_frames(tmp_path, write_video, monkeypatch):
    """With the family's own sampling, of a span."""
    path = str(write_video(tmp_path / "v.mp4", frames=80, fps=8))
    model, own = tiny("qwen3_vl")
    processor = VideoLanguageProcessor(
        own, VideoLanguageSettings(frames_per_clip="family", num_clips=2, max_new_tokens=2)
    )
    question = VideoQuestion(path, "what ?", "a", "open_ended", "1", start=2.0, end=8.0)
    dataset = VideoClipDataset([question], processor)
    args = VideoLanguageTrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none", save_frames=True)
    trainer = VideoLanguageTrainer(model, args, eval_dataset=dataset, processing_class=processor)
    (line,) = trainer.predict(dataset).predictions
    seen = []
    monkeypatch.setattr(pipeline_file, "read_clips", lambda *of, **how: seen.extend(read_clips(*of, **how)) or seen)
    answer = pipeline("video-question-answering", model=model, processor=processor)
    answer(video=path, question="what ?", start=2.0, end=8.0)
    trained = [seconds for _, seconds, _ in dataset[VideoRequest((0,), epoch=0, num_clips=2)]["clips"]]
    assert line["frame_times"] == seen[0][1] == pytest.approx(2.125 + 0.5 * np.arange(12))
    for seconds in trained:  # the same interval, from another start within it
        assert np.diff(seconds) == pytest.approx([0.5] * 11) and abs(seconds[0] - 2.125) < 0.5


def test_times_of_a_span_are_those_of_the_video(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=40, fps=8)
    sampler = sampler_of(frames_per_clip=2)
    ((frames, seconds, duration),) = read_clips(sampler, str(path), 2.0, 4.0)
    assert all(2 <= second < 4 for second in seconds) and seconds == [index_of(frame) / 8 for frame in frames]
    assert duration == pytest.approx(2.0)  # the span's own length


def test_frames_in_memory_count_as_one_a_second():
    sampler = sampler_of(frames_per_clip=3)
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
    sampler = sampler_of(frames_per_clip=4)
    for source in (str(path), {"path": "v.mkv", "bytes": path.read_bytes()}):
        ((frames, seconds, duration),) = read_clips(sampler, source)
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


def test_a_training_batch_has_a_part_for_each_number_of_frames_and_each_video_with_several_questions(
    dataset, collator
):
    requests = [VideoRequest(rows, epoch=0, num_clips=3) for rows in ((0,), (1, 4), (2,), (3,))]
    items = dataset.__getitems__(requests)
    batch = collator(items)
    assert batch["rows"].tolist() == [0, 1, 4, 3] and batch["task"] == "open_ended"
    assert [row for row, _ in batch["unreadable"]] == [2] and "broken.mp4" in batch["unreadable"][0][1]
    long, short, brief = batch["parts"]
    names = [[question.question_id for question in part["questions"]] for part in (long, short, brief)]
    assert names == [["q0"], ["q1", "q4"], ["q3"]] and all(len(part["clips"]) == 3 for part in batch["parts"])
    assert short["clips"][0]["tails"].shape[0] == 2 and short["clips"][0]["input_ids"].shape[0] == 1
    for question, labels in zip(short["questions"], short["labels"]):
        written = collator.processor.tokenizer.decode(labels[labels != -100])
        assert written == f"{question.answer}<|im_end|>"
    assert not torch.equal(short["clips"][0]["pixel_values_videos"], short["clips"][1]["pixel_values_videos"])

    long, brief = VideoLanguageDataCollator(collator.processor, share=False)(items)["parts"]  # ten frames, and five
    assert [question.question_id for question in brief["questions"]] == ["q1", "q4", "q3"]
    assert [clip["video_grid_thw"][:, 0].tolist() for clip in (long["clips"][0], brief["clips"][0])] == [[5], [3] * 3]
    assert brief["labels"].shape == (3, 5)
    other_order = VideoLanguageDataCollator(collator.processor, share=False)([items[1], items[0], items[3]])
    assert other_order["rows"].tolist() == [1, 4, 3, 0]  # that of the parts


def test_a_part_of_evaluation_is_about_one_video(dataset, collator):
    open_ended = collator(dataset.__getitems__([VideoRequest((1, 4)), VideoRequest((3,))]))
    asked = [part["shared"] for part in open_ended["parts"]]
    assert [len(one["prompts"]) for one in asked] == [2, 1] and open_ended["rows"].tolist() == [1, 4, 3]
    assert all(len(answers) == 1 for one in asked for answers in one["answers"])
    choice = collator(dataset.__getitems__([VideoRequest((5, 6))]))
    (part,) = choice["parts"]
    assert [len(answers) for answers in part["shared"]["answers"]] == [3, 2]
    prompt, (answer, *_) = part["shared"]["prompts"][0], part["shared"]["answers"][0]
    assert torch.equal(answer[: len(prompt)], prompt) and "video" not in collator.processor.tokenizer.decode(prompt)


def test_a_video_of_a_shape_that_the_family_refuses_is_unreadable(tmp_path, write_video, collator):
    path = str(write_video(tmp_path / "v.mp4", height=16, width=3300))
    dataset = VideoClipDataset([VideoQuestion(path, "what ?", None, "open_ended", "1")], collator.processor)
    item = dataset[VideoRequest((0,))]
    assert "3300 x 16" in item["error"] and "v.mp4" in item["error"]
