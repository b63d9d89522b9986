"""The processor: questions, candidates, videos, and what comes back from a folder."""

import copy
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoProcessor

from modeling_siasamrea.processors.processing_siasamrea import SiaSamReaProcessor
from modeling_siasamrea.processors.video_processing_siasamrea import SiaSamReaVideoProcessor


@pytest.fixture
def processor(tokenizer) -> SiaSamReaProcessor:
    return SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 32}, frames_per_clip=3), tokenizer)


def test_questions_and_videos(processor, write_video, tmp_path):
    video = write_video(tmp_path / "video.mp4")
    batch = processor(
        videos=[video], text=["what is it?", "what color is the cat?"], video_index=[0, 0], return_tensors="pt"
    )
    assert batch["pixel_values_videos"].shape == (1, 1, 3, 3, 32, 32) and batch["frame_mask"].tolist() == [[1, 1, 1]]
    assert batch["video_index"].tolist() == [0, 0]
    assert batch["input_ids"].shape == batch["attention_mask"].shape and len(batch["input_ids"]) == 2
    assert batch["attention_mask"][0].sum() < batch["attention_mask"][1].sum() == batch["input_ids"].shape[1]


def test_candidates_follow_their_question_in_one_segment(processor):
    batch = processor(
        text=["what is it?", "what does it do?"],
        candidates=[["a cat", "a dog"], ["jump", "times"]],
        return_tensors="pt",
    )
    assert batch["input_ids"].shape[:2] == (2, 2) and not batch["token_type_ids"].any()
    assert processor.tokenizer.decode(batch["input_ids"][0, 1], skip_special_tokens=True) == "what is it? a dog"
    assert processor.tokenizer.decode(batch["input_ids"][1, 0], skip_special_tokens=True) == "what does it do? jump"
    lists = processor(text="what is it?", candidates=["a cat", "a dog"])
    assert lists["input_ids"] == batch["input_ids"][:1, :, : len(lists["input_ids"][0][0])].tolist()


def test_a_question_over_the_limit_is_truncated_and_counted(processor):
    long = "what is the cat doing? " * 8
    batch = processor(text=["what?", long, long], return_tensors="pt")
    assert batch["input_ids"].shape[1] == 32 and processor.num_truncated == 2
    assert processor(text=long, max_length=10, return_tensors="pt")["input_ids"].shape[1] == 10
    assert processor.num_truncated == 3


def texts(processor, batch) -> list[list[str]]:
    return [[processor.tokenizer.decode(row, skip_special_tokens=True) for row in rows] for rows in batch["input_ids"]]


def test_a_long_question_is_shortened_for_all_its_candidates_alike(processor):
    question = "what is the man doing ? the cat does it jump"
    candidates = [["a cat", "a red dog"], ["red", "blue"]]
    batch = processor(text=[question, "what ?"], candidates=candidates, max_length=10, return_tensors="pt")
    assert texts(processor, batch) == [
        ["what is the man doing a cat", "what is the man doing a red dog"],
        ["what? red", "what? blue"],
    ]
    assert processor.num_truncated == 2
    # Nothing is lost where the longest candidate just fits.
    whole = processor(text=[question], candidates=candidates[:1], max_length=16, return_tensors="pt")
    assert texts(processor, whole)[0][1] == "what is the man doing? the cat does it jump a red dog"
    assert processor.num_truncated == 2


def test_a_word_is_cut_between_its_pieces(processor):
    batch = processor(text=["zebra" * 9], candidates=[["cat", "dog"]], max_length=10, return_tensors="pt")
    assert texts(processor, batch) == [["zebraze cat", "zebraze dog"]]
    assert batch["input_ids"].shape == (1, 2, 10)


def test_a_candidate_that_is_too_long_by_itself_is_refused(processor):
    candidates = [["a red cat", "a dog"]]
    batch = processor(text=["what is it ?"], candidates=candidates, max_length=5, return_tensors="pt")
    assert texts(processor, batch) == [["a red cat", "a dog"]]
    with pytest.raises(ValueError, match="candidate of 'what is it [?]' has 5 tokens, more than max_length, 4"):
        processor(text=["what is it ?"], candidates=candidates, max_length=4, return_tensors="pt")


def test_training_arguments_reach_the_video_processor(processor, write_video, tmp_path):
    video = write_video(tmp_path / "video.mp4")
    batch = processor(videos=video, text="what?", training=True, seed=5, num_clips=4, start=1.0, return_tensors="pt")
    assert batch["pixel_values_videos"].shape[1] == 4
    expected = processor.video_processor(video, training=True, seed=5, num_clips=4, start=1.0, return_tensors="pt")
    assert torch.equal(batch["pixel_values_videos"], expected["pixel_values_videos"])


def test_save_and_load(processor, tmp_path):
    processor(text="what is the cat doing? " * 8)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is SiaSamReaProcessor and loaded.num_truncated == 0
    assert loaded.video_processor.to_dict() == processor.video_processor.to_dict()
    text = {"text": "what does the man do?", "candidates": ["red", "blue"]}
    assert dict(loaded(**text)) == dict(processor(**text))


def test_an_unknown_argument_is_refused_and_nested_ones_reach_their_part(processor, write_video, tmp_path):
    with pytest.raises(ValueError, match="no setting 'max_lenght'; did you mean 'max_length'"):
        processor(text="what ?", max_lenght=4)
    batch = processor(
        videos=write_video(tmp_path / "video.mp4", frames=4),
        text="what is it ?",
        text_kwargs={"max_length": 4},
        videos_kwargs={"num_eval_clips": 2},
        common_kwargs={"return_tensors": "pt"},
    )
    assert batch["input_ids"].shape == (1, 4) and batch["pixel_values_videos"].shape[1] == 2


def test_words_that_are_spelled_or_unknown_are_named(processor):
    assert processor.unknown_words("What is the colour of the cats? ½ jump") == ["colour", "of", "½"]
    assert processor.unknown_words("what is the man doing?") == []


def test_copies_pickles_and_threads(processor):
    """Threads that ask for different lengths get what each asked for; a fast tokenizer shares its truncation."""
    long = "what is the cat doing ? " * 8
    processor = pickle.loads(pickle.dumps(copy.deepcopy(processor)))

    def length(limit: int) -> int:
        return len(processor(text=long, max_length=limit)["input_ids"][0])

    limits = [4, 9, 14, 19] * 25
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(length, limits)) == limits
    assert processor.num_truncated == 100


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "videos, text or both"),
        ({"text": ["a", "b"], "candidates": [["x", "y"]]}, "questions: 2, lists: 1"),
        ({"text": ["a", "b"], "candidates": [["x", "y"], ["z"]]}, r"equally many candidates.*got \[1, 2\]"),
        ({"text": ["a"], "candidates": [[]]}, r"at least one; got \[0\]"),
    ],
)
def test_bad_input_gets_a_sentence(processor, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        processor(**arguments)


def test_a_process_that_is_forked_while_a_thread_tokenizes_does_not_wait_for_it(processor):
    stopped = threading.Event()

    def tokenize():
        while not stopped.is_set():
            processor(text=["what is the man doing ?"] * 2000)

    thread = threading.Thread(target=tokenize)
    thread.start()
    try:
        for _ in range(3):
            time.sleep(0.1)
            child = multiprocessing.get_context("fork").Process(target=processor, kwargs={"text": "what is it ?"})
            child.start()
            child.join(timeout=30)
            child.kill()
            child.join()
            assert child.exitcode == 0
    finally:
        stopped.set()
        thread.join()
