"""Prompts, frames with their times, and answers of five families; the settings file."""

import dataclasses
import re

import pytest
import torch
from tiny_video_language_models import FAMILIES, tiny
from tokenizers.processors import TemplateProcessing
from transformers import BertTokenizerFast, Ernie4_5_VLMoeVideoProcessor, ViTImageProcessor
from transformers.utils import logging

from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import SETTINGS_NAME, VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoLanguageDataCollator


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
    questions = [OPEN, dataclasses.replace(OPEN, question="what ?", answer="a long answer")]
    texts = [processor.question_text(question) for question in questions]
    clips = [(frames(), [0.0, 1.0, 2.0, 3.0], 4.0)]
    items = [{"rows": (0,), "questions": [question], "clips": clips, "training": True} for question in questions]
    (part,) = VideoLanguageDataCollator(processor)(items)["parts"]
    inputs, labels = part["clips"][0], part["labels"]
    end = processor.tokenizer.eos_token
    space = " " if family == "smolvlm" else ""  # as its template writes answers
    decoded = [processor.tokenizer.decode(row[row != -100]) for row in labels]
    assert decoded == [f"{space}red{end}", f"{space}a long answer{end}"]
    predicted = inputs["input_ids"][:, 1:][:, -labels.shape[1] + 1 :]
    assert torch.equal(labels[:, :-1][labels[:, :-1] != -100], predicted[labels[:, :-1] != -100])
    prompts = processor(texts, clips * 2)
    for row in range(2):
        length = int((labels[row] != -100).sum())
        learnt = inputs["input_ids"][row][inputs["attention_mask"][row] == 1][:-length]
        assert torch.equal(prompts["input_ids"][row][prompts["attention_mask"][row] == 1], learnt)
        assert prompts["attention_mask"][row, -1] == 1  # padding is at the left


PARTS = (
    "{% for part in message.content %}"
    "{% if part.type == 'video' %}<|video_pad|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
)
GLM = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n"
    f"{{% if message.role == 'user' %}}{PARTS}{{% else %}}{{{{ message.content }}}}{{% endif %}}{{% endfor %}}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TURNS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    f"{{% if message.content is string %}}{{{{ message.content }}}}{{% else %}}THOUGHT{PARTS}{{% endif %}}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\nOPENED{% endif %}"
)
ANSWERED = "{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
SWITCHED = "{% if thinking is defined and thinking is false %}<think></think>{% else %}<think>{% endif %}"


@pytest.mark.parametrize(
    "template, prompt_end, written",
    [
        (GLM, "<|assistant|>\n", "red<|im_end|>"),  # wants an answer as text, and writes no end
        # Qwen3-VL-Thinking opens a thought, which only an answered turn closes.
        (TURNS.replace("THOUGHT", ANSWERED).replace("OPENED", "<think>\n"), "</think>\n\n", "red<|im_end|>"),
        # DeepSeek's leaves thoughts out of answered turns.
        (TURNS.replace("THOUGHT", "").replace("OPENED", "<think>\n"), "assistant\n", "red<|im_end|>"),
        # Kimi's has a switch of its own; Qwen3.5's writes an empty thought for its switch.
        (TURNS.replace("THOUGHT", "").replace("OPENED", SWITCHED), "<think></think>", "red<|im_end|>"),
        (
            TURNS.replace("THOUGHT", "").replace("OPENED", SWITCHED.replace("thinking", "enable_thinking")),
            "<think></think>",
            "red<|im_end|>",
        ),
        (TURNS.replace("THOUGHT", "").replace("OPENED", ""), "assistant\n", "red<|im_end|>"),
    ],
)
def test_a_chat_is_the_prompt_the_answer_and_its_end(template, prompt_end, written, monkeypatch):
    warned = []
    monkeypatch.setattr(logging.get_logger("transformers.processing_utils"), "warning", warned.append)
    family = tiny("qwen3_vl")[1]
    family.chat_template = template
    processor = VideoLanguageProcessor(family, VideoLanguageSettings())
    prompt = processor.chat("what ?")
    assert prompt.endswith(prompt_end) and processor.chat("what ?", "red") == prompt + written
    assert "<|video_pad|>what ?" in prompt
    (part,) = VideoLanguageDataCollator(processor)(
        [{"rows": (0,), "questions": [OPEN], "clips": [(frames(), [0.0, 1.0, 2.0, 3.0], 4.0)], "training": True}]
    )["parts"]
    assert processor.tokenizer.decode(part["labels"][part["labels"] != -100]) == written
    assert not warned  # of arguments that the template does not know


def test_a_prompt_that_opens_a_thought_is_said_once(caplog):
    family = tiny("qwen3_vl")[1]
    family.chat_template = TURNS.replace("THOUGHT", "").replace("OPENED", "<think>\n")
    VideoLanguageProcessor(family, VideoLanguageSettings(max_new_tokens=31))
    VideoLanguageProcessor(family, VideoLanguageSettings(max_new_tokens=31))
    assert sum("opens a thought, and max_new_tokens=31" in record.message for record in caplog.records) == 1


def test_a_chat_has_one_bos_whoever_writes_it():
    for template in (TURNS, "<s>" + TURNS):
        family = tiny("qwen3_vl")[1]
        family.tokenizer.add_special_tokens({"bos_token": "<s>"})
        family.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", family.tokenizer.bos_token_id)]
        )
        family.chat_template = template.replace("THOUGHT", "").replace("OPENED", "")
        processor = VideoLanguageProcessor(family, VideoLanguageSettings())
        clip = (frames(), [0.0, 1.0, 2.0, 3.0], 4.0)
        rows = [
            processor(["what ?"], [clip])["input_ids"],
            processor.share(clip, ["a", "b"], [[], []])["inputs"]["input_ids"],
        ]
        assert [int((ids == family.tokenizer.bos_token_id).sum()) for ids in rows] == [1, 1]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"chat_template": None}, "chat template"),
        ({"chat_template": "{{ messages[0].content[-1].text }}"}, "takes no video"),
        ({"chat_template": TURNS.replace("{{ part.text }}", "{{ raise_exception('no text') }}")}, "no text"),
        ({"chat_template": "{% for part in messages[0].content %}{{ part.type }}{% endfor %}"}, "no turn"),
    ],
)
def test_templates_that_cannot_be_used_are_sentences(change, said):
    family = tiny("qwen3_vl")[1]
    family.chat_template = change["chat_template"]
    with pytest.raises(ValueError, match=said):
        VideoLanguageProcessor(family, VideoLanguageSettings())


def test_tokenizers_without_an_end_or_padding():
    family = tiny("qwen3_vl")[1]
    family.tokenizer.pad_token = None
    processor = VideoLanguageProcessor(family, VideoLanguageSettings())
    clips = [(frames(), [0.0, 1.0, 2.0, 3.0], 4.0)] * 2
    assert processor(["a", "longer"], clips)["input_ids"].shape[0] == 2
    family.tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        VideoLanguageProcessor(family, VideoLanguageSettings())


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


@pytest.mark.parametrize(
    "family, pattern, expected",
    [
        ("qwen3_vl", r"<([\d.]+) seconds>", ["102.2", "107.2"]),  # the means of pairs
        ("smolvlm", r"\d:\d\d:\d\d \[H|from (\d\d:\d\d)", ["", "01:41", "01:43", "01:46", "01:48"]),
        ("cosmos3_edge", r"<([\d.]+) seconds>", ["101.0", "103.5", "106.0", "108.5"]),
        ("video_llama_3", r"Time ([\d.]+)s", ["101.0", "103.5", "106.0", "108.5"]),
        ("gemma4", r"(\d\d:\d\d) ", ["01:41", "01:43", "01:46", "01:48"]),
    ],
)
def test_times_of_a_span_are_those_of_the_video(family, pattern, expected):
    prompt = prompt_of(make(family), [101.0, 103.5, 106.0, 108.5], 10.0)
    assert re.findall(pattern, prompt) == expected
    assert family != "smolvlm" or "0:00:10 [H:MM:SS] video" in prompt


def test_positions_of_a_span_count_its_own_seconds():
    """Qwen2.5-VL's: a pair of four frames between 100 s and 110 s stands for 5 s."""
    clip = (frames(), [101.0, 103.5, 106.0, 108.5], 10.0)
    assert make("qwen2_5_vl")(["what ?"], [clip])["second_per_grid_ts"][0] == pytest.approx(5.0)


def test_a_family_that_draws_on_frames_draws_the_true_times_on_copies(monkeypatch):
    """Ernie 4.5 VL."""
    drawn = []

    def draw(self, image, timestamp, size_factor=0.1):
        drawn.append(timestamp)
        return torch.zeros_like(image)

    monkeypatch.setattr(Ernie4_5_VLMoeVideoProcessor, "_render_image_with_timestamp", draw)
    ernie = Ernie4_5_VLMoeVideoProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56})
    clip = (frames(), [101.0, 103.5, 106.0, 108.5], 10.0)
    for _ in range(2):
        video, metadata = make("qwen3_vl")._video(*clip)
        ernie([video], do_sample_frames=False, video_metadata=[metadata])
    assert torch.equal(clip[0], frames())
    assert drawn[:4] == drawn[4:] == [f"time: 00:01:{second}" for second in ("41.00", "43.50", "46.00", "48.50")]


def test_a_prompt_may_have_braces_and_an_answer_no_special_token(caplog):
    processor = make("qwen3_vl", prompts={"open_ended": 'Answer {"like": "this"}: {question}'}, max_new_tokens=3)
    assert processor.question_text(OPEN) == 'Answer {"like": "this"}: what {colour} is it ?'
    odd = dataclasses.replace(OPEN, question="why {candidates} ?")
    assert processor.question_text(odd).endswith("why {candidates} ?")
    with pytest.raises(ValueError, match=r"Question 1 contains '<\|im_end\|>'"):
        processor.check([OPEN, dataclasses.replace(OPEN, answer="red<|im_end|>")])
    processor.check([OPEN, COUNT])
    assert (
        "longer than max_new_tokens=3, which can never be written whole: 1 of 2, first that of question 1"
        in caplog.text
    )


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
    "family, said, expected",
    [
        ("qwen3_vl", {}, ("adaptive", 2, 4, 768)),
        ("smolvlm", {}, ("adaptive", 1, 1, 8)),  # its num_frames is the most
        ("qwen3_vl", {"min_frames": None, "max_frames": None, "max_duration": 300}, ("adaptive", 2, 1, 600)),
        ("gemma4", {}, (32, 1.0, 5, 16)),
    ],
)
def test_frames_are_sampled_as_the_family_says(family, said, expected):
    own = tiny(family)[1]
    for name, value in said.items():
        setattr(own.video_processor, name, value)
    processor = VideoLanguageProcessor(own, VideoLanguageSettings(frames_per_clip="family"))
    settings = processor.settings
    assert (settings.frames_per_clip, settings.fps, settings.min_frames, settings.max_frames) == expected
    assert processor.video_processor.frames_per_clip == expected[0]


def test_a_family_that_says_nothing_is_a_sentence():
    with pytest.raises(ValueError, match="LlavaOnevisionVideoProcessor has neither fps nor num_frames"):
        make("llava_onevision", frames_per_clip="family")
    with pytest.raises(ValueError, match="Qwen3VLVideoProcessor has no setting 'sizes'; did you mean 'size'"):
        make("qwen3_vl", family_video_processor={"sizes": 3})


@pytest.mark.parametrize(
    "harness, asked",
    [
        (
            "lmms_eval",
            "which ?\nA. a cat\nB. a dog\nAnswer with the option's letter from the given choices directly.",
        ),
        (
            "video_mme",
            "Select the best answer to the following multiple-choice question based on the video. Respond with only "
            "the letter (A, B, C, or D) of the correct option.\nwhich ?\nA. a cat\nB. a dog\nThe best answer is:",
        ),
        (
            "vlmevalkit",
            "\nThese are the frames of a video. Select the best answer to the following multiple-choice question "
            "based on the video. Respond with only the letter (A, B, C, or D) of the correct option.\n"
            "Question: which ?\nA. a cat\nB. a dog\nAnswer: ",
        ),
    ],
)
def test_letters_in_the_wording_of_a_harness(harness, asked):
    letters = make("qwen3_vl", multiple_choice="letters", prompts={"letters": harness})
    assert letters.question_text(CHOICE) == asked


def test_a_budget_of_pixels_and_a_wording_are_saved(tmp_path):
    budget = {"size": {"shortest_edge": 4 * 64 * 96, "longest_edge": 16 * 64 * 96}}
    processor = make(
        "qwen3_vl", family_video_processor=budget, multiple_choice="letters", prompts={"letters": "video_mme"}
    )
    processor.save_pretrained(tmp_path)
    again = VideoLanguageProcessor.from_pretrained(tmp_path)
    asked = ["what ?"], [(frames(), [0.0, 1.0, 2.0, 3.0], 4.0)]
    assert make("qwen3_vl")(*asked)["video_grid_thw"].tolist() == [[2, 2, 4]]
    for one in (processor, again):
        assert one(*asked)["video_grid_thw"].tolist() == [[2, 4, 6]]
        assert one.question_text(CHOICE).splitlines()[1:] == ["which ?", "A. a cat", "B. a dog", "The best answer is:"]
    # One file of settings for other models.
    file = tmp_path / "settings.json"
    file.write_text('{"fps": 2.0, "prompts": {"letters": "lmms_eval"}}')
    settings = VideoLanguageSettings.from_pretrained(tmp_path, file, fps=3.0)
    assert (
        settings.fps == 3.0
        and settings.prompts["letters"].endswith("directly.")
        and not settings.family_video_processor
    )
    with pytest.raises(
        ValueError, match="The settings .*nowhere.json are wrong: The file .*nowhere.json does not exist"
    ):
        VideoLanguageSettings.from_pretrained(tmp_path, tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"num_clips": 1}, "needs 2 or more clips"),
        ({"omega": 1.5}, "are wrong: omega must be greater or equal to 0"),
        ({"alpha": "x"}, "are wrong: alpha must be a number; got 'x'."),
        ({"prompts": "x"}, "are wrong: prompts must be a dictionary; got str"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1"),
        ({"prompts": {"letters": "{question}"}}, "where {candidates} goes"),
        ({"prompts": {"open": "{question}"}}, "open_ended"),
        ({"supervised_clips": "mean"}, "supervised_clips"),
        ({"reasoning_weights": "learned"}, "reasoning_weights"),
        ({"clips": 3}, "no setting 'clips'"),
    ],
)
def test_settings_out_of_range_are_sentences(tmp_path, fields, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        VideoLanguageSettings.from_pretrained(tmp_path, **fields)


def test_a_damaged_settings_file_is_named(tmp_path):
    (tmp_path / SETTINGS_NAME).write_text("{")
    with pytest.raises(ValueError, match=rf"{SETTINGS_NAME} is not JSON"):
        VideoLanguageSettings.from_pretrained(tmp_path)
    (tmp_path / SETTINGS_NAME).write_text("[1]")
    with pytest.raises(ValueError, match=rf"{SETTINGS_NAME} must be a JSON object; got \[1\]"):
        VideoLanguageSettings.from_pretrained(tmp_path)
