"""A new tokenizer: questions that differ have different ids, in every script."""

import itertools

import pytest
from transformers import AutoTokenizer

from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.data.vocabulary import build_tokenizer


PAIRS = {
    "Korean": ("남자는 무엇을 합니까?", "여자는 무엇을 합니까?"),
    "Hindi": ("वह क्या कर रहा है?", "वह क्या कर रही है?"),
    "Arabic": ("ماذا يفعل الرَّجُل؟", "ماذا يفعل الرِّجل؟"),
    "Persian": ("او می\u200cرود؟", "او میرود؟"),  # a mark that shows nothing tells them apart
    "Hebrew": ("מָה הוּא עושה?", "מִי הוא עושה?"),
    "Thai": ("ผู้ชายทำอะไรอยู่", "ผู้หญิงทำอะไรอยู่"),
    "a long text in Thai": ("ทำอะไร" * 40 + "ก", "ทำอะไร" * 40 + "ข"),
    "Chinese": ("那个人在做什么", "这个人在做什么"),
    "Japanese": ("かれはなにをしていますか", "がれはなにをしていますか"),
    "Russian": ("что он делает?", "что она делает?"),
    "Greek": ("τι κάνει αυτός;", "τι κάνει αυτή;"),
    "Tamil": ("அவன் என்ன செய்கிறான்?", "அவள் என்ன செய்கிறாள்?"),
    "accents": ("wo ist das Schloß?", "wo ist das Schloss?"),
    "marks": ("où est la côte ?", "où est la cote ?"),
    "emoji": ("what is 🥰 ?", "what is 🫠 ?"),
    "emoji sequences": ("who is 👩‍🚒 ?", "who is 👨‍🚒 ?"),
}


def rows(questions) -> list:
    return load_video_questions([{"video": "v", "question": question, "answer": "a"} for question in questions])


@pytest.mark.parametrize("script", list(PAIRS))
def test_letters_of_every_script_are_kept(script, tmp_path):
    built = build_tokenizer(rows(PAIRS[script]), max_length=400)
    built.save_pretrained(tmp_path)
    for tokenizer in (built, AutoTokenizer.from_pretrained(tmp_path)):
        first, second = (tokenizer(question)["input_ids"] for question in PAIRS[script])
        assert first != second
        assert tokenizer.unk_token_id not in first + second


def test_all_questions_differ_and_what_normalisation_makes_equal_does_not():
    questions = list(itertools.chain(*PAIRS.values()))
    tokenizer = build_tokenizer(rows(questions), max_length=400)
    assert len({tuple(tokenizer(question)["input_ids"]) for question in questions}) == len(questions)
    composed, decomposed = "où est la côte ?", "ou\u0300 est la co\u0302te ?"
    assert composed != decomposed and tokenizer(composed)["input_ids"] == tokenizer(decomposed)["input_ids"]
    assert tokenizer("Où  EST la côte?")["input_ids"] == tokenizer(composed)["input_ids"]


def test_what_training_never_had_is_spelled_as_far_as_its_letters_are_known():
    tokenizer = build_tokenizer(rows(["what is the cat doing ?", "남자는 무엇을 합니까?"]))
    assert tokenizer.tokenize("cats") == ["cat", "##s"]
    assert tokenizer.tokenize("dog🦊cat") == ["d", "##o", "##g", "[UNK]", "cat"]
    assert "[UNK]" not in tokenizer.tokenize("나무")  # its letters were there, its syllables were not
    assert tokenizer.tokenize("gâteau")[:2] == ["g", "##a"]


def test_an_english_vocabulary_is_words_by_count_after_their_letters():
    tokenizer = build_tokenizer(rows(["What cats? what", "Does it jump?"]), size=3)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    letters = sorted(set("?whatcatsdoesitjump"))
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert vocabulary[5:] == [*letters, *(f"##{letter}" for letter in letters), "what", "cats"]
    assert tokenizer("what ?", "cats")["token_type_ids"] == [0, 0, 0, 0, 1, 1]
