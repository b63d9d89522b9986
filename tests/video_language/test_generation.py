"""Generated answers, counts in words, and the probability of what was written."""

import pytest
import torch
from tiny_video_language_models import FAMILIES, tiny

from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.generation import generate_answers, normalize_answer, parse_count


@pytest.mark.parametrize(
    "written, expected",
    [
        ("Red.", "red"),
        (" A  Red\tcar \n because it is", "a red car"),
        ("\n\nyes", "yes"),
        ("3.5", "3.5"),
        ("U.S.", "u.s"),
        ("", ""),
        (".", ""),
    ],
)
def test_answers_are_normalised(written, expected):
    assert normalize_answer(written) == expected


@pytest.mark.parametrize(
    "written, expected",
    [
        ("3", 3.0),
        ("There are 12 of them.", 12.0),
        ("Two times", 2.0),
        ("seventeen", 17.0),
        ("2.5", 2.5),
        ("seven or 8", 7.0),
        ("someone does it", None),
        ("none", None),
        ("", None),
    ],
)
def test_counts_are_read(written, expected):
    assert parse_count(written) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_generated_and_how_likely_it_is(family):
    """Beside a loop of single steps over the whole sequence, for two prompts of different length."""
    model, processor = tiny(family)
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(max_new_tokens=6))
    end = processor.tokenizer.eos_token_id
    head = model.get_output_embeddings().weight
    torch.nn.init.normal_(head, std=0.5)  # so that answers are of some likelihood
    head.data[256:] = 0.0  # and of no special token, such as a video's
    clip = (torch.full((4, 3, 32, 32), 90, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0], 4.0)
    texts = ["what ?", "a much longer question ?"]
    expected = []
    for text in texts:
        inputs, ids, score = processor([text], [clip]), [], 1.0
        while len(ids) < 6 and end not in ids:
            with torch.no_grad():
                probabilities = model(**inputs, use_cache=False).logits[0, -1].softmax(dim=0)
            score *= probabilities.max().item()
            ids.append(probabilities.argmax().item())
            for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
                if name in inputs:
                    value = {"input_ids": ids[-1], "attention_mask": 1, "mm_token_type_ids": 0}[name]
                    inputs[name] = torch.cat([inputs[name], torch.full((1, 1), value)], dim=1)
        expected.append((processor.tokenizer.decode(ids, skip_special_tokens=True), score))
    together = generate_answers(model, processor, processor(texts, [clip] * 2))
    for (text, score), (other, other_score) in zip(together, expected):
        assert text == other and score == pytest.approx(other_score, rel=1e-3)


def test_an_answer_that_ends_earlier_is_not_as_unlikely_as_the_padding_after_it():
    model, processor = tiny("qwen3_vl")
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(max_new_tokens=4))
    clip = (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0], 4.0)
    prompts = processor(["what ?"] * 2, [clip] * 2)
    letter, end = processor.tokenizer("x")["input_ids"][0], processor.tokenizer.eos_token_id
    steps = iter([[letter, end], [letter, 0], [end, 0]])  # the first answer is xx, the second nothing

    def forced(module, inputs, logits):
        scores = torch.full_like(logits, -20.0)
        for row, token in enumerate(next(steps)):
            scores[row, -1, token] = 0.0
            if token == end:
                scores[row, -1, letter] = -0.001  # the end is as likely as not
        return scores

    handle = model.get_output_embeddings().register_forward_hook(forced)
    answers = generate_answers(model, processor, prompts)
    handle.remove()
    assert [text for text, _ in answers] == ["xx", ""]
    assert all(score == pytest.approx(0.5, abs=1e-3) for _, score in answers)


def test_generation_is_greedy_whatever_the_model_comes_with():
    model, processor = tiny("qwen2_5_vl")
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(max_new_tokens=5))
    prompts = processor(["what ?"], [(torch.zeros(4, 3, 56, 56, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0], 4.0)])
    plain = generate_answers(model, processor, prompts)
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, max_length=12)
    assert generate_answers(model, processor, prompts) == plain
