"""The pipeline over video-language models: the same requests and answers as over the small network."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import PeftModel
from tiny_video_language_models import tiny
from transformers import AutoModelForImageTextToText, pipeline

import modeling_siasamrea  # noqa: F401
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings, add_lora


CANDIDATES = ["red", "green", "a long one"]


@pytest.fixture
def video(tmp_path, write_video) -> str:
    return str(write_video(tmp_path / "v.mp4"))


def saved(family: str, folder) -> str:
    model, processor = tiny(family)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def test_every_kind_of_question_before_any_fine_tuning(tmp_path, video):
    answer = pipeline("video-question-answering", model=saved("qwen3_vl", tmp_path / "model"))
    best = answer(video=video, question="what colour ?", candidates=CANDIDATES, start=1.0, end=4.0)
    assert sorted(one["answer"] for one in best) == sorted(CANDIDATES)
    assert sum(one["score"] for one in best) == pytest.approx(1.0)
    assert [one["score"] for one in best] == sorted((one["score"] for one in best), reverse=True)
    assert len(answer(video=video, question="what colour ?", candidates=CANDIDATES, top_k=1)) == 1
    ((written,),) = [answer(video=video, question="what is it ?")]
    assert isinstance(written["answer"], str) and 0 <= written["score"] <= 1
    (count,) = answer(video=video, question="how many ?", task="count")
    assert set(count) == {"answer", "value"}
    many = answer(
        [
            {"video": video, "question": ["which ?", "what colour ?"], "candidates": CANDIDATES},
            {"video": video, "question": "what is it ?"},
        ]
    )
    assert len(many) == 2 and len(many[0]) == 2 and many[1][0]["answer"] == written["answer"]
    single = answer(video=video, question="which ?", candidates=CANDIDATES)
    for one, other in zip(many[0][0], single):
        assert one["answer"] == other["answer"] and one["score"] == pytest.approx(other["score"], rel=1e-3)


def test_an_adapters_folder_answers_with_its_own_settings(tmp_path, video):
    base = saved("qwen3_vl", tmp_path / "base")
    model = add_lora(AutoModelForImageTextToText.from_pretrained(base), 4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    tiny("qwen3_vl")[1].save_pretrained(tmp_path / "adapter")
    VideoLanguageSettings(multiple_choice="letters", frames_per_clip=6).save_pretrained(tmp_path / "adapter")
    answer = pipeline("video-question-answering", model=str(tmp_path / "adapter"))
    assert answer.processor.settings.multiple_choice == "letters"
    assert answer.processor.settings.frames_per_clip == 6
    ours = answer(video=video, question="which ?", candidates=CANDIDATES)
    plain = pipeline(
        "video-question-answering",
        model=AutoModelForImageTextToText.from_pretrained(base),
        processor=VideoLanguageProcessor(tiny("qwen3_vl")[1], answer.processor.settings),
    )
    assert plain(video=video, question="which ?", candidates=CANDIDATES)[0]["score"] != ours[0]["score"]
    plain.model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), tmp_path / "adapter")
    for one, other in zip(plain(video=video, question="which ?", candidates=CANDIDATES), ours):
        assert one["answer"] == other["answer"] and one["score"] == pytest.approx(other["score"], rel=1e-4)
    # An adapter made with peft alone has neither a processor nor settings.
    model.save_pretrained(tmp_path / "bare")
    bare = pipeline("video-question-answering", model=str(tmp_path / "bare"))
    assert bare.processor.settings == VideoLanguageSettings()
    bare.processor = answer.processor
    for one, other in zip(bare(video=video, question="which ?", candidates=CANDIDATES), ours):
        assert one["answer"] == other["answer"] and one["score"] == pytest.approx(other["score"], rel=1e-4)


def test_a_question_of_no_task_is_a_sentence(video):
    model, processor = tiny("qwen3_vl")
    answer = pipeline("video-question-answering", model=model, processor=processor)
    with pytest.raises(ValueError, match="multiple_choice"):
        answer(video=video, question="which ?", task="multiple_choice")
    with pytest.raises(ValueError, match="count"):
        answer(video=video, question="which ?", task="count", candidates=CANDIDATES)


def test_requests_of_every_form_and_what_is_saved(tmp_path, video):
    folder = saved("smolvlm", tmp_path / "model")
    answer = pipeline("video-question-answering", model=folder, dtype=torch.bfloat16, candidates=CANDIDATES)
    assert answer.model.dtype == torch.bfloat16
    (first, *_) = asked = answer(video=video, question="which ?")
    sources = [open(video, "rb").read(), {"path": video}, {"path": "v", "bytes": open(video, "rb").read()}]
    for (best, *_), source in zip(answer([{"video": source, "question": "which ?"} for source in sources]), sources):
        assert best["score"] == pytest.approx(first["score"], rel=1e-2), source
    answer.model.train()  # answers in evaluation mode, from several threads and in workers as well
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: answer(video=video, question="which ?"), range(2))) == [asked] * 2
    assert answer([{"video": video, "question": "which ?"}], num_workers=1) == [asked] and answer.model.training
    stream = answer(({"video": video, "question": "which ?", "start": start} for start in (0.0, 2.0)), batch_size=2)
    assert [len(answers) for answers in stream] == [3, 3]
    answer.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.py"))
    again = pipeline("video-question-answering", model=str(tmp_path / "saved"), candidates=CANDIDATES)
    assert [one["answer"] for one in again(video=video, question="which ?")] == [one["answer"] for one in asked]


def test_a_model_in_the_hubs_cache_answers_without_a_network(tmp_path, video, monkeypatch):
    repository = tmp_path / "hub" / "models--maker--model"
    saved("qwen3_vl", repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    answer = pipeline("video-question-answering", model="maker/model")
    assert len(answer(video=video, question="which ?", candidates=["a", "b"])) == 2
