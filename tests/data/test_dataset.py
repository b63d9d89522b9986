"""Annotation rows, vocabularies, batches: what is read, refused, grouped and sampled."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from modeling_siasamrea import SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.data.batches import EvaluationBatchSampler, SiaSamReaDataCollator, TrainingBatchSampler
from modeling_siasamrea.data.dataset import UnreadableVideoError, VideoQuestionDataset, VideoRequest, frame_seed
from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.data.vocabulary import answer_vocabulary, build_tokenizer


ROW = {"video": "a.mp4", "question": "what?", "answer": "cat"}


@pytest.fixture
def processor(tokenizer) -> SiaSamReaProcessor:
    return SiaSamReaProcessor(
        SiaSamReaVideoProcessor(size={"longest_edge": 64}, num_clips=3, frames_per_clip="adaptive", min_frames=2),
        tokenizer,
    )


@pytest.fixture
def dataset(small_data: Path, processor: SiaSamReaProcessor) -> VideoQuestionDataset:
    return VideoQuestionDataset(load_video_questions(small_data / "rows.jsonl", small_data), processor)


# Vocabularies


def test_the_vocabulary_is_by_count_then_alphabet():
    rows = load_video_questions([{**ROW, "answer": answer} for answer in "b c c a b d c".split()])
    assert answer_vocabulary(rows) == ["c", "b", "a", "d"]
    assert answer_vocabulary(rows, 2) == ["c", "b"]
    unlabelled = load_video_questions([{**ROW, "answer": None}], require_answers=False)
    assert answer_vocabulary(rows + unlabelled) == ["c", "b", "a", "d"]


def test_a_new_tokenizer_spells_unknown_words():
    tokenizer = build_tokenizer(load_video_questions([{**ROW, "question": "What cats? what"}]))
    assert tokenizer.tokenize("what CAT?") == ["what", "c", "##a", "##t", "?"]


# Batches


@pytest.mark.parametrize("batch_size", [3, 4, 7])
def test_training_batches_have_one_task_and_a_constant_number_of_questions(dataset, batch_size):
    sampler = TrainingBatchSampler(dataset, batch_size, questions_per_video=2, seed=0, num_clips=3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == math.ceil(12 / batch_size) + 2 * math.ceil(4 / batch_size)
    asked = Counter()
    for batch in batches:
        rows = [row for request in batch for row in request.rows]
        assert len(rows) == batch_size
        assert len({dataset.questions[row].task for row in rows}) == 1
        for request in batch:
            assert len({dataset.questions[row].video for row in request.rows}) == 1
        assert len({dataset.questions[request.rows[0]].video for request in batch}) == len(batch)
        asked.update(rows)
    assert set(asked) == set(range(len(dataset)))


def test_the_order_is_a_function_of_seed_and_epoch(dataset):
    def order(seed: int, epoch: int) -> list:
        sampler = TrainingBatchSampler(dataset, batch_size=4, questions_per_video=2, seed=seed, num_clips=3)
        sampler.set_epoch(epoch)
        return [[request.rows for request in batch] for batch in sampler]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_processes_share_a_step_and_its_task(dataset):
    samplers = [
        TrainingBatchSampler(
            dataset, 2, questions_per_video=2, seed=0, num_clips=3, num_processes=2, process_index=index
        )
        for index in range(2)
    ]
    alone = TrainingBatchSampler(dataset, 4, questions_per_video=2, seed=0, num_clips=3)
    for whole, *parts in zip(alone, *samplers, strict=True):
        rows = [row for part in parts for request in part for row in request.rows]
        assert sorted(rows) == sorted(row for request in whole for row in request.rows)
        assert len({dataset.questions[row].task for row in rows}) == 1


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_asks_each_row_and_keeps_a_video_together(dataset, processes):
    samplers = [EvaluationBatchSampler(dataset, 4, processes, index) for index in range(processes)]
    assert len({len(sampler) for sampler in samplers}) == 1
    requests = {request for sampler in samplers for batch in sampler for request in batch}
    rows = [row for request in requests for row in request.rows]
    assert sorted(rows) == list(range(len(dataset)))
    assert len(requests) == 3 * 4  # one for each task and video


def test_frames_do_not_depend_on_workers_or_batches(dataset, processor):
    collator = SiaSamReaDataCollator(processor, {})

    def frames(batch_size: int, workers: int, epoch: int = 3) -> dict[str, torch.Tensor]:
        sampler = TrainingBatchSampler(dataset, batch_size, questions_per_video=3, seed=5, num_clips=3)
        sampler.set_epoch(epoch)
        by_question = {}
        for batch in DataLoader(dataset, batch_sampler=sampler, collate_fn=collator, num_workers=workers):
            for row, index in zip(batch["rows"].tolist(), batch["video_index"].tolist()):
                real = batch["frame_mask"][index].bool()
                by_question[row] = batch["pixel_values_videos"][index][:, real]
        return by_question

    expected = frames(batch_size=2, workers=0)
    other = frames(batch_size=6, workers=2)
    assert expected.keys() == other.keys()
    assert all(torch.equal(expected[row], other[row]) for row in expected)
    next_epoch = frames(batch_size=2, workers=0, epoch=4)
    assert any(not torch.equal(expected[row], next_epoch[row]) for row in expected)
    assert frame_seed(0, 1, "a") != frame_seed(1, 0, "a") != frame_seed(0, 1, "b")


def test_a_batch_holds_each_video_once_and_pads_what_is_short(dataset, processor):
    collator = SiaSamReaDataCollator(processor, {"cat": 0, "dog": 1})
    requests = [VideoRequest((0, 1), epoch=0, num_clips=2), VideoRequest((15,), epoch=0, num_clips=2)]
    batch = collator(dataset.__getitems__(requests))
    assert batch["pixel_values_videos"].dtype == torch.uint8
    assert batch["pixel_values_videos"].shape[:2] == (2, 2)
    assert batch["video_index"].tolist() == [0, 0, 1]
    assert batch["rows"].tolist() == [0, 1, 15]
    assert batch["labels"].tolist() == [0, 1, 0]
    assert batch["task"] == "open_ended"
    outside = collator(dataset.__getitems__([VideoRequest((2,))]))
    assert outside["labels"].tolist() == [-100]
    dataset.questions[0] = replace(dataset.questions[0], answer=None)
    assert collator(dataset.__getitems__(requests))["labels"].tolist() == [-100, 1, 0]
    choice = collator(dataset.__getitems__([VideoRequest((3,))]))
    assert choice["input_ids"].shape[:2] == (1, 3) and choice["labels"].tolist() == [0]
    dataset.questions[3] = replace(dataset.questions[3], answer=None)
    assert collator(dataset.__getitems__([VideoRequest((3,))]))["labels"].tolist() == [-100]


def test_frames_are_of_the_part_that_is_asked_about(dataset, processor):
    part = VideoQuestionDataset([replace(dataset.questions[0], start=0.25, end=0.75)], processor)
    assert len(part) == 1 and all(0.25 <= time < 0.75 for time in part[VideoRequest((0,))]["frame_times"])
    assert part.__getitems__([0])[0]["rows"] == part[0]["rows"] == (0,)  # as a plain DataLoader asks
    assert part[0]["frame_times"] == part[VideoRequest((0,))]["frame_times"]
    assert dataset[VideoRequest((0,))]["frame_times"][-1] > 0.75


def test_padded_frames_are_masked(dataset, processor):
    items = [dataset[VideoRequest((0,))], dataset[VideoRequest((15,))]]
    items[0]["pixel_values_videos"] = items[0]["pixel_values_videos"][:, :1]
    items[0]["frame_mask"] = items[0]["frame_mask"][:1]
    batch = SiaSamReaDataCollator(processor, {})(items)
    assert batch["frame_mask"].tolist() == [[1, 0], [1, 1]]
    assert torch.equal(batch["pixel_values_videos"][0, :, :1], items[0]["pixel_values_videos"])
    assert not batch["pixel_values_videos"][0, :, 1:].any()


def test_an_unreadable_video_is_left_out_and_a_whole_batch_of_them_is_filled(dataset, processor):
    collator = SiaSamReaDataCollator(processor, {"cat": 0, "dog": 1, "red": 2})
    batch = collator(dataset.__getitems__([VideoRequest((0,), epoch=0), VideoRequest((10, 11), epoch=0)]))
    assert batch["rows"].tolist() == [0]
    assert [row for row, _ in batch["unreadable"]] == [10, 11]
    assert "v2.mp4" in batch["unreadable"][0][1]
    filled = collator(dataset.__getitems__([VideoRequest((10, 11), epoch=0)]))
    assert filled["rows"].tolist() == [15, 16]  # the next video's questions, as many
    assert [row for row, _ in filled["unreadable"]] == [10, 11]


def test_training_leaves_out_a_task_without_one_readable_video_and_stops_only_where_all_are(dataset, processor):
    assert dataset.check_readable() == {}
    # Of the open-ended questions, those about the damaged video alone; of counts, all.
    rows = [q for q in dataset.questions if q.task == "count" or (q.task == "open_ended" and "v2" in q.video)]
    partly = VideoQuestionDataset(rows, processor)
    left_out = partly.check_readable()
    assert [rows[row].task for row in left_out] == ["open_ended"] * 3
    assert all("v2.mp4" in reason for reason in left_out.values())
    sampler = TrainingBatchSampler(partly, 2, questions_per_video=2, seed=0, num_clips=3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 2
    assert {rows[row].task for batch in batches for request in batch for row in request.rows} == {"count"}

    damaged = VideoQuestionDataset([question for question in dataset.questions if "v2" in question.video], processor)
    with pytest.raises(UnreadableVideoError, match=r"No training video can be read.*v2.mp4"):
        damaged.check_readable()


def test_evaluation_of_what_cannot_be_read_names_it_and_computes_nothing(dataset, processor):
    collator = SiaSamReaDataCollator(processor, {"cat": 0})
    damaged = VideoQuestionDataset([question for question in dataset.questions if "v2" in question.video], processor)
    batches = [collator(damaged.__getitems__(requests)) for requests in EvaluationBatchSampler(damaged, 2)]
    assert all(batch.keys() == {"rows", "unreadable", "truncated"} for batch in batches)
    assert sorted(row for batch in batches for row, _ in batch["unreadable"]) == list(range(len(damaged)))
    assert all(batch["rows"].tolist() == [] for batch in batches)


def test_a_video_in_the_rows_is_read_as_its_file_is(small_data, processor):
    path = small_data / "v0.mp4"
    sources = [str(path), path.read_bytes(), {"path": "v.mp4", "bytes": path.read_bytes()}]
    items = []
    for source in sources:
        rows = load_video_questions([{**ROW, "video": source}])
        items.append(VideoQuestionDataset(rows, processor)[VideoRequest((0,), epoch=1)])
    for item in items[1:]:
        assert torch.equal(item["pixel_values_videos"], items[0]["pixel_values_videos"])


# Questions of different numbers of candidates, and with several right answers


@pytest.fixture
def choices(small_data: Path, processor: SiaSamReaProcessor) -> VideoQuestionDataset:
    """Questions with two to four candidates about the three readable videos, and open-ended ones."""
    rows = []
    for number, video in enumerate(["v0.mp4", "v1.mp4", "v3.mp4"] * 5):
        candidates = ["cat", "dog", "red", "blue"][: 2 + number % 3] if number % 5 else None
        rows.append({"video": video, "question": f"what is it {number} ?", "answer": "dog", "candidates": candidates})
    return VideoQuestionDataset(load_video_questions(rows, small_data), processor)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_batch_has_one_number_of_candidates_in_all_processes(choices, processes):
    samplers = [
        TrainingBatchSampler(
            choices, 2, questions_per_video=2, seed=0, num_clips=3, num_processes=processes, process_index=index
        )
        for index in range(processes)
    ]
    counts = Counter(question.kind for question in choices.questions)
    asked = set()
    steps = list(zip(*samplers, strict=True))
    assert len(steps) == len(samplers[0]) == sum(math.ceil(count / (2 * processes)) for count in counts.values())
    for step in steps:
        rows = [row for batch in step for request in batch for row in request.rows]
        assert len(rows) == 2 * processes
        assert len({choices.questions[row].kind for row in rows}) == 1
        asked.update(rows)
    assert asked == set(range(len(choices)))

    evaluated = [EvaluationBatchSampler(choices, 4, processes, index) for index in range(processes)]
    batches = [batch for sampler in evaluated for batch in sampler]
    assert {row for batch in batches for request in batch for row in request.rows} == asked
    for batch in batches:
        assert len({choices.questions[row].kind for request in batch for row in request.rows}) == 1


def test_batches_of_different_numbers_of_candidates_collate(choices, processor):
    collator = SiaSamReaDataCollator(processor, {"dog": 0})
    for requests in EvaluationBatchSampler(choices, 4):
        batch = collator(choices.__getitems__(requests))
        _, candidates = choices.questions[batch["rows"][0]].kind
        assert batch["input_ids"].shape[:-1] == (
            (len(batch["rows"]), candidates) if candidates else batch["rows"].shape
        )


def test_a_substitute_has_as_many_candidates(small_data, processor):
    rows = [
        {"video": video, "question": "what?", "answer": "cat", "candidates": ["cat", "dog", "red"][:number]}
        for video, number in (("v1.mp4", 2), ("v2.mp4", 2), ("v0.mp4", 3))
    ]
    dataset = VideoQuestionDataset(load_video_questions(rows, small_data), processor)
    batch = SiaSamReaDataCollator(processor, {})(dataset.__getitems__([VideoRequest((1,), epoch=0)]))
    assert batch["rows"].tolist() == [0] and batch["input_ids"].shape[:2] == (1, 2)


def test_the_label_is_the_commonest_right_answer_that_is_known(dataset, small_data, processor):
    answers = [["sofa", "couch"], ["couch"], ["couch", "settee"], ["bench", "settee"], ["throne"]]
    rows = load_video_questions([{**ROW, "video": "v0.mp4", "answer": answer} for answer in answers], small_data)
    assert answer_vocabulary(rows) == ["couch", "settee", "bench", "sofa", "throne"]
    assert answer_vocabulary(rows, 2) == ["couch", "settee"]
    collator = SiaSamReaDataCollator(processor, {"couch": 0, "settee": 1, "sofa": 2})
    dataset = VideoQuestionDataset(rows, processor)
    batch = collator(dataset.__getitems__([VideoRequest(tuple(range(5)))]))
    assert batch["labels"].tolist() == [0, 0, 0, 1, -100]


def test_texts_beyond_the_limit_are_counted(dataset, processor):
    batch = SiaSamReaDataCollator(processor, {}, max_length=4)(dataset.__getitems__([VideoRequest((0, 1))]))
    assert batch["truncated"] == 2
    assert batch["input_ids"].shape == (2, 4)
