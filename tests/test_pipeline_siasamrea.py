"""The pipeline on small models and videos: what it answers, and how often it decodes and encodes."""

import pytest
import torch
from transformers import pipeline

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    SiaSamReaVideoProcessor,
    VideoQuestionAnsweringPipeline,
)
from modeling_siasamrea.processors import video_processing_siasamrea
from modeling_siasamrea.processors.video_decoding import VideoDecodingError


@pytest.fixture
def folder(tiny_config, tokenizer, tmp_path):
    """A checkpoint with all heads."""
    torch.manual_seed(0)
    config = tiny_config(
        tasks=["open_ended", "multiple_choice", "count"], id2label={0: "cat", 1: "dog", 2: "red", 3: "blue"}
    )
    processor = SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=3), tokenizer)
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def answer(folder) -> VideoQuestionAnsweringPipeline:
    return pipeline("video-question-answering", model=str(folder))


@pytest.fixture
def videos(write_video, tmp_path):
    return [write_video(tmp_path / f"{name}.mp4", frames=frames) for name, frames in (("one", 40), ("two", 24))]


@pytest.fixture
def decoded(monkeypatch) -> list:
    """The videos that were decoded, in order."""
    record, decode = [], video_processing_siasamrea.decode_frames
    monkeypatch.setattr(
        video_processing_siasamrea,
        "decode_frames",
        lambda video, *arguments: record.append(video) or decode(video, *arguments),
    )
    return record


def test_open_ended_answers_are_the_models(answer, videos, folder):
    best = answer(video=videos[0], question="what is it?", task="open_ended")
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder)
    inputs = answer.processor(videos=videos[0], text="what is it?", return_tensors="pt")
    probabilities = model(**inputs, task="open_ended").logits.softmax(dim=1)[0]
    assert [one["score"] for one in best] == pytest.approx(probabilities.sort(descending=True).values.tolist())
    assert best[0]["answer"] == model.config.id2label[int(probabilities.argmax())]
    assert len(answer(video=videos[0], question="what is it?", task="open_ended", top_k=2)) == 2


def test_candidates_are_ranked_whatever_their_order(answer, videos):
    candidates = ["a cat", "a red dog", "blue"]
    ranked = answer(video=str(videos[0]), question="what is it?", candidates=candidates)
    assert sorted(one["answer"] for one in ranked) == sorted(candidates)
    assert sum(one["score"] for one in ranked) == pytest.approx(1)
    turned = answer(video=videos[0], question="what is it?", candidates=candidates[::-1])
    assert [one["answer"] for one in turned] == [one["answer"] for one in ranked]


def test_a_count_is_a_number(answer, videos):
    (count,) = answer(video=videos[0], question="how many times does it jump?", task="count")
    assert count["answer"] == min(max(round(count["value"]), 1), 10)


def test_a_mixed_list_gets_the_answers_each_gets_alone(answer, videos):
    requests = [
        {"video": videos[0], "question": "what is it?", "task": "open_ended"},
        {"video": videos[1], "question": "what is it?", "candidates": ["cat", "dog"]},
        {"video": videos[1], "question": ["what is red?", "what is it?"], "task": "open_ended"},
        {"video": videos[0], "question": "what does it do?", "start": 1.0, "end": 3.0, "task": "open_ended"},
    ]
    alone = [answer(request) for request in requests]
    for batch_size in (1, 4):
        together = answer(requests, batch_size=batch_size)
        flat = [[two for one in (each if isinstance(each[0], list) else [each]) for two in one] for each in together]
        expected = [[two for one in (each if isinstance(each[0], list) else [each]) for two in one] for each in alone]
        for ours, theirs in zip(flat, expected):
            assert [one["answer"] for one in ours] == [one["answer"] for one in theirs]
            assert [one["score"] for one in ours] == pytest.approx([one["score"] for one in theirs], abs=1e-5)
    assert answer([requests[0]])[0] == alone[0]


def test_questions_about_a_video_decode_and_encode_it_once(answer, videos, decoded):
    encoded = []
    answer.model.model.image_encoder.register_forward_hook(lambda module, args, output: encoded.append(len(args[0])))
    answer(video=videos[0], question=["what is it?", "what is red?", "what does it do?"], task="open_ended")
    assert len(decoded) == 1 and encoded == [3]  # one clip of three frames
    answer([{"video": video, "question": "what?", "task": "open_ended"} for video in videos * 2], batch_size=2)
    assert len(decoded) == 3 and encoded == [3, 6]


def test_a_span_changes_what_is_seen(answer, videos):
    whole = answer(video=videos[0], question="what is it?", task="open_ended")
    span = answer(video=videos[0], question="what is it?", task="open_ended", start=4.0)
    assert span != whole


def test_frames_in_memory(answer, videos):
    frames, _ = video_processing_siasamrea.decode_frames(videos[0], range(40))
    from_memory = answer(video=frames.permute(0, 2, 3, 1).numpy(), question="what is it?", task="open_ended")
    from_file = answer(video=videos[0], question="what is it?", task="open_ended")
    assert [one["score"] for one in from_memory] == pytest.approx([one["score"] for one in from_file])


def test_save_and_load(answer, videos, tmp_path):
    answer.save_pretrained(tmp_path / "again")
    again = pipeline("video-question-answering", model=str(tmp_path / "again"))
    request = {"video": videos[0], "question": "what is it?", "candidates": ["cat", "dog"]}
    assert again(request) == answer(request)


def test_adapter_folders(answer, folder, videos, tmp_path):
    peft = pytest.importorskip("peft")
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder)
    lora = peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False, lora_alpha=4000)
    adapted = peft.get_peft_model(model, lora)
    adapted.save_pretrained(tmp_path / "adapter")
    answer.processor.save_pretrained(tmp_path / "adapter")
    with_adapter = pipeline("video-question-answering", model=str(tmp_path / "adapter"))
    inputs = answer.processor(videos=videos[0], text="what is it?", return_tensors="pt")
    expected = adapted.eval()(**inputs, task="open_ended").logits.softmax(dim=1).max().item()
    request = {"video": videos[0], "question": "what is it?", "task": "open_ended"}
    assert with_adapter(request)[0]["score"] == pytest.approx(expected, abs=1e-5)
    assert answer(request)[0]["score"] != pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"question": "what?"}, "needs a video and a question.*has no video"),
        ({"video": "a.mp4"}, "has no question"),
        ({"video": "a.mp4", "question": []}, "empty list"),
        ({"video": "a.mp4", "question": "what?", "answer": "cat"}, "has a field answer"),
        ({"video": "a.mp4", "question": "what?"}, r"without candidates fits 2 of them; say which by task"),
        ({"video": "a.mp4", "question": "what?", "task": "caption"}, "task='caption' fits 0 of them"),
        ({"video": "a.mp4", "question": ["a", "b"], "candidates": [["x"]]}, "2 questions, but candidates for 1"),
        ({"video": "a.mp4", "question": "what?", "task": "count", "top_k": 0}, "top_k.*must be 1 or more; got 0"),
    ],
)
def test_bad_requests_get_a_sentence(answer, request_, sentence):
    with pytest.raises(ValueError, match=sentence):
        answer(**request_)


def test_an_unreadable_video_is_named(answer):
    with pytest.raises(VideoDecodingError, match=r"nowhere.mp4: there is no such file"):
        answer(video="nowhere.mp4", question="what?", task="count")
