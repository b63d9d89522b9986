"""Answers about one video that share its prompt, beside the model's forward over each whole prompt."""

import pytest
import torch
from tiny_video_language_models import FAMILIES, tiny

from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings, shared_prompts
from modeling_siasamrea.video_language.data import VideoLanguageDataCollator
from modeling_siasamrea.video_language.generation import answer_questions, normalize_answer, parse_count, write


CLIP = (torch.full((4, 3, 32, 32), 90, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0], 4.0)
QUESTIONS = [
    VideoQuestion("v", "which ?", None, "multiple_choice", "1", ("cat", "a much longer one", "dog")),
    VideoQuestion("v", "what colour is it ?", "red", "open_ended", "2"),
    VideoQuestion("v", "how many ?", None, "count", "3"),
    VideoQuestion("v", "what shape has it ?", "blue", "open_ended", "4"),  # goes on with that of the colour
]


@pytest.mark.parametrize(
    "written, expected",
    [
        ("Red.", "red"),
        (" A  Red\tcar \n because it is", "a red car"),
        ("\n\nyes", "yes"),
        ("U.S.", "u.s"),
        (".", ""),
        ("it may be blue\n</think>\n\nRed.", "red"),
    ],
)
def test_answers_are_normalised(written, expected):
    assert normalize_answer(written) == expected


@pytest.mark.parametrize(
    "written, expected",
    [
        ("There are 12 of them.", 12.0),
        ("Two times", 2.0),
        ("seventeen", 17.0),
        ("2.5", 2.5),
        ("seven or 8", 7.0),
        ("5 or 6 ...</think>six", 6.0),
        ("someone does it", None),
        ("", None),
    ],
)
def test_counts_are_read(written, expected):
    assert parse_count(written) == expected


def asked_of(processor: VideoLanguageProcessor, questions=QUESTIONS) -> dict:
    asked = VideoLanguageDataCollator(processor).to_answer(questions, CLIP)["shared"]
    return asked


def in_full(model, processor, text: str, answer: str) -> float:
    """The log-likelihood of an answer from one forward over the whole prompt."""
    written = processor.chat(text, answer).removeprefix(processor.chat(text))
    number = len(processor.tokenizer(written, add_special_tokens=False)["input_ids"])
    inputs = processor([text], [CLIP], [answer])
    with torch.no_grad():
        log_p = model(**inputs, use_cache=False).logits[0, -number - 1 : -1].log_softmax(dim=-1)
    return log_p.gather(1, inputs["input_ids"][0, -number:, None]).sum().item()


def written_in_full(model, processor, text: str, ends: list[int], number: int) -> tuple[str, float]:
    """What a loop of single steps over the whole sequence writes."""
    inputs, ids, score = processor([text], [CLIP]), [], 1.0
    while len(ids) < number and not set(ends) & set(ids):
        with torch.no_grad():
            probabilities = model(**inputs, use_cache=False).logits[0, -1].softmax(dim=0)
        score *= probabilities.max().item()
        ids.append(probabilities.argmax().item())
        for name, value in inputs.items():
            if value.shape == inputs["attention_mask"].shape and name != "attention_mask":
                more = ids[-1] if name == "input_ids" else 0
                inputs[name] = torch.cat([value, torch.full((1, 1), more)], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return processor.tokenizer.decode(ids, skip_special_tokens=True), score


@pytest.mark.parametrize(
    "family, shared", [*((family, True) for family in [*FAMILIES, "qwen3_5", "cosmos3_edge"]), ("qwen2_5_vl", False)]
)
def test_answers_that_share_a_prompt_are_those_of_whole_prompts(family, shared, monkeypatch):
    model, processor = tiny(family)
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(max_new_tokens=5))
    head = model.get_output_embeddings().weight
    torch.nn.init.normal_(head, std=0.5)  # so that answers are of some likelihood
    head.data[256:] = 0.0  # and of no special token, such as a video's
    asked = asked_of(processor)
    with torch.no_grad():
        assert shared_prompts.continues(model, asked["inputs"], asked["prompts"][0])
    if not shared:
        monkeypatch.setitem(shared_prompts._CONTINUES, model, {False: False})
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, no_repeat_ngram_size=1)
    answered = answer_questions(model, processor, asked, rows_at_a_time=2)
    scored = [(*QUESTIONS[0].candidates,), ("red",), (), ("blue",)]
    for question, answers, (scores, text, probability) in zip(QUESTIONS, scored, answered):
        asked_text = processor.question_text(question)
        expected = [in_full(model, processor, asked_text, answer) for answer in answers]
        assert scores.tolist() == pytest.approx(expected, rel=1e-5)
        if question.task == "multiple_choice":
            assert text is None
        else:
            ends = [processor.tokenizer.eos_token_id]
            other, other_probability = written_in_full(model, processor, asked_text, ends, 5)
            assert text == other and probability == pytest.approx(other_probability, rel=1e-4)


def test_letters_and_a_probability_with_its_end():
    model, processor = tiny("qwen3_vl")
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(multiple_choice="letters"))
    ((scores, *_),) = answer_questions(model, processor, asked_of(processor, QUESTIONS[:1]))
    text = processor.question_text(QUESTIONS[0])
    assert scores.tolist() == pytest.approx([in_full(model, processor, text, letter) for letter in "ABC"], rel=1e-5)


class Scripted:
    """Stands in for a prompt: each step finds the tokens of its script sure, one for each row."""

    def __init__(self, *steps: tuple[int, int]):
        self.steps, self.tails = iter(steps), []

    def read(self, tails, kept):
        self.tails.append(tails.tolist())
        return 50.0 * torch.nn.functional.one_hot(torch.tensor(next(self.steps)), 10)[:, None].float(), None


def test_answers_that_are_written_together_end_each_on_its_own():
    prompt = Scripted((7, 9), (7, 4), (9, 4))
    (first, log_p), (second, other) = write(prompt, torch.tensor([[1, 2], [3, 4]]), 5, [9])
    assert (first, second) == ([7, 7], []) and prompt.tails == [[[1, 2], [3, 4]], [[7], [9]], [[7], [4]]]
    assert log_p == pytest.approx(0.0, abs=1e-3) and other == pytest.approx(0.0, abs=1e-3)
    ((written, _),) = write(Scripted((7,), (7,)), torch.tensor([[1]]), 2, [9])
    assert written == [7, 7]


@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_a_family_whose_cache_cannot_be_copied_answers_from_whole_prompts(fault, monkeypatch):
    model, processor = tiny("qwen3_vl")
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(max_new_tokens=2))
    asked = asked_of(processor)
    before = answer_questions(model, processor, asked)
    del shared_prompts._CONTINUES[model]

    def repeat(prompt, number, repeat=shared_prompts.Prompt.repeat):
        if prompt.cache is not None:
            if fault == "raises":
                raise AttributeError("no reorder_cache")
            prompt.cache.layers[0].keys.mul_(1.5)
        return repeat(prompt, number)

    monkeypatch.setattr(shared_prompts.Prompt, "repeat", repeat)
    answered = answer_questions(model, processor, asked)
    assert shared_prompts._CONTINUES[model] == {False: False}
    for (scores, text, _), (expected, other, _) in zip(answered, before):
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
        assert text == other
