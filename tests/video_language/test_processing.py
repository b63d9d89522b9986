"""Prompts, frames with their times, and answers of five families; the settings file."""

import re

import pytest
import torch
from tiny_video_language_models import FAMILIES, tiny
from transformers import BertTokenizerFast, ViTImageProcessor

from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import SETTINGS_NAME, VideoLanguageProcessor, VideoLanguageSettings


OPEN = VideoQuestion("v", "what {colour} is it ?", "red", "open_ended", "1")
CHOICE = VideoQuestion("v", "which ?", 1, "multiple_choice", "2", ("a cat", "a dog"))
COUNT = VideoQuestion("v", "how many ?", 3.0, "count", "3")


def frames(number: int = 4) -> torch.Tensor:
    return torch.randint(256, (number, 3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(family: str, **settings) -> VideoLanguageProcessor:
    return VideoLanguageProcessor(tiny(family)[1], VideoLanguageSettings(**settings))


def test_what_is_asked_and_answered():
    processor = make("qwen3_vl")
    assert processor.question_text(OPEN) == "what {colour} is it ?\nAnswer with a single word or a short phrase."
    assert processor.question_text(CHOICE) == "which ?\na cat\na dog\nAnswer with the right one of them."
    assert processor.question_text(COUNT) == "how many ?\nAnswer with a single number."
    assert [processor.answer_text(question) for question in (OPEN, CHOICE, COUNT)] == ["red", "a dog", "3"]
    assert processor.candidate_texts(CHOICE) == ["a cat", "a dog"]
    letters = make("qwen3_vl", multiple_choice="letters", prompts={"open_ended": "Q: {question}"})
    assert letters.question_text(CHOICE) == "which ?\nA. a cat\nB. a dog\nAnswer with the letter of the right one."
    assert (letters.answer_text(CHOICE), letters.candidate_texts(CHOICE)) == ("B", ["A", "B"])
    assert letters.question_text(OPEN) == "Q: what {colour} is it ?" and letters.answer_text(OPEN) == "red"


def test_what_cannot_be_asked_is_a_sentence():
    many = VideoQuestion("v", "which ?", 0, "multiple_choice", "many", tuple(map(str, range(27))))
    assert make("qwen3_vl").candidate_texts(many)[26] == "26"
    with pytest.raises(ValueError, match="many has 27 candidates, and there are letters for 26"):
        make("qwen3_vl", multiple_choice="letters").question_text(many)
    with pytest.raises(ValueError, match=r"Question 7 contains '<\|video_pad\|>'"):
        make("qwen3_vl").question_text(VideoQuestion("v", "a <|video_pad|> ?", None, "open_ended", "7"))
    with pytest.raises(ValueError, match="Question 8 contains '<image>'"):
        make("smolvlm").question_text(VideoQuestion("v", "which ?", 0, "multiple_choice", "8", ("<image>", "b")))


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_end_the_inputs_and_prompts_are_what_generation_starts_from(family):
    processor = make(family)
    texts, answers = ["what ?", "what colour is it ?"], ["red", "a long answer"]
    clips = [(frames(), [0.0, 1.0, 2.0, 3.0], 4.0)] * 2
    inputs = processor(texts, clips, answers)
    answer_ids = processor.answer_ids(inputs, texts, answers)
    end = processor.tokenizer.eos_token
    space = " " if family == "smolvlm" else ""  # as its template writes answers
    decoded = [processor.tokenizer.decode(row[row != -100]) for row in answer_ids]
    assert decoded == [f"{space}red{end}", f"{space}a long answer{end}"]
    assert (inputs["input_ids"][:, -1] == processor.tokenizer.eos_token_id).all()
    prompts = processor(texts, clips)
    for row in range(2):
        length = int((answer_ids[row] != -100).sum())
        learnt = inputs["input_ids"][row][inputs["attention_mask"][row] == 1][:-length]
        assert torch.equal(prompts["input_ids"][row][prompts["attention_mask"][row] == 1], learnt)
        assert prompts["attention_mask"][row, -1] == 1  # padding is at the left


def prompt_of(processor: VideoLanguageProcessor, seconds: list[float], duration: float) -> str:
    inputs = processor(["what ?"], [(frames(len(seconds)), seconds, duration)])
    return processor.tokenizer.decode(inputs["input_ids"][0])


def test_prompts_have_the_true_times_of_frames():
    # Frames of a variable rate, late in a long video; Qwen3-VL writes the mean of each pair.
    seconds = [61.04, 61.2, 75.0, 140.5]
    assert re.findall(r"<([\d.]+) seconds>", prompt_of(make("qwen3_vl"), seconds, 3725.4)) == ["61.1", "107.8"]
    written = prompt_of(make("smolvlm"), seconds, 3725.4)
    assert re.findall(r"from (\d\d:\d\d)", written) == ["01:01", "01:01", "01:15", "02:20"]
    assert "1:02:05 [H:MM:SS] video" in written


def test_seconds_of_a_grid_are_those_of_the_clip():
    """Qwen2.5-VL turns them into positions: a pair of frames spans half of a clip of four frames."""
    inputs = make("qwen2_5_vl")(["what ?"], [(frames(), [0.0, 5.0, 10.0, 15.0], 20.0)])
    assert inputs["second_per_grid_ts"][0] == pytest.approx(10.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", [1, 5])
def test_one_frame_and_odd_numbers_of_frames(family, number):
    model, processor = tiny(family)
    inputs = VideoLanguageProcessor(processor, VideoLanguageSettings())(
        ["what ?"], [(frames(number), [2.0 + frame for frame in range(number)], 10.0)]
    )
    with torch.no_grad():
        assert torch.isfinite(model(**inputs).logits).all()
    if family == "qwen3_vl" and number == 1:
        assert "<2.0 seconds>" in processor.tokenizer.decode(inputs["input_ids"][0])


def test_a_processor_without_videos_is_refused():
    from transformers import LlavaProcessor

    tokenizer = BertTokenizerFast(vocab={"[UNK]": 0})
    with pytest.raises(ValueError, match="A LlavaProcessor takes no videos"):
        VideoLanguageProcessor(LlavaProcessor(ViTImageProcessor(), tokenizer), VideoLanguageSettings())


def test_a_family_that_asks_for_the_cap_of_frames_gets_it():
    processor = tiny("qwen3_vl")[1]
    processor.video_processor.cap_pixels_per_frame = None
    assert VideoLanguageProcessor(processor, VideoLanguageSettings()).processor.video_processor.cap_pixels_per_frame


def test_settings_travel_in_a_file(tmp_path):
    settings = VideoLanguageSettings(
        num_clips=6, omega=0.3, frames_per_clip=8, sampling="copies", prompts={"count": "{question} Ein Wort: é"}
    )
    settings.save_pretrained(tmp_path)
    assert (tmp_path / SETTINGS_NAME).is_file()
    assert VideoLanguageSettings.from_pretrained(tmp_path) == settings
    other = VideoLanguageSettings.from_pretrained(tmp_path, num_clips=2, prompts={"open_ended": "{question}"})
    assert (other.num_clips, other.omega, other.prompts["count"]) == (2, 0.3, "{question} Ein Wort: é")
    assert other.prompts["open_ended"] == "{question}" and "{candidates}" in other.prompts["letters"]
    assert settings.video_sampler().sampling == "copies" and settings.video_sampler().frames_per_clip == 8
    (tmp_path / "empty").mkdir()
    assert VideoLanguageSettings.from_pretrained(tmp_path / "empty") == VideoLanguageSettings()


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"num_clips": 1}, "at least 2 clips"),
        ({"omega": 1.5}, "must lie in"),
        ({"alpha": -1}, "alpha"),
        ({"affinity_temperature": 0.0}, "above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1"),
        ({"prompts": {"letters": "{question}"}}, "where {candidates} goes"),
        ({"prompts": {"open": "{question}"}}, "none for open"),
        ({"supervised_clips": "mean"}, "supervised_clips"),
        ({"reasoning_weights": "learned"}, "reasoning_weights"),
        ({"clips": 3}, "no setting clips"),
    ],
)
def test_settings_out_of_range_are_sentences(tmp_path, fields, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        VideoLanguageSettings.from_pretrained(tmp_path, **fields)


def test_a_damaged_settings_file_is_named(tmp_path):
    (tmp_path / SETTINGS_NAME).write_text("{")
    with pytest.raises(ValueError, match=rf"{SETTINGS_NAME} is not JSON"):
        VideoLanguageSettings.from_pretrained(tmp_path)
