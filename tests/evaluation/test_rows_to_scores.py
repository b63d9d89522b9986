"""From rows to training and scores: kinds of questions side by side, and tasks of which no video can be read."""

import json
from collections.abc import Callable

import pytest
import torch

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    SiaSamReaTrainer,
    SiaSamReaTrainingArguments,
    SiaSamReaVideoProcessor,
)
from modeling_siasamrea.data.dataset import UnreadableVideoError, VideoQuestionDataset
from modeling_siasamrea.data.questions import load_video_questions


CANDIDATES = ["cat", "dog", "red", "blue"]


def open_ended(video: str, answer: str | list[str] = "cat") -> dict:
    return {"video": video, "question": "what is it ?", "answer": answer}


def choice(video: str, number: int) -> dict:
    return {"video": video, "question": "which ?", "candidates": CANDIDATES[:number], "answer": "dog"}


def count(video: str) -> dict:
    return {"video": video, "question": "how many times ?", "answer": 2, "task": "count"}


@pytest.fixture
def make_trainer(tmp_path, small_data, tokenizer, tiny_config) -> Callable[..., SiaSamReaTrainer]:
    """A trainer of a tiny model on some rows about the small data's videos, of which v2 is damaged."""

    def make(rows: list[dict], **arguments) -> SiaSamReaTrainer:
        processor = SiaSamReaProcessor(
            SiaSamReaVideoProcessor(size={"longest_edge": 64}, num_clips=3, frames_per_clip=2), tokenizer
        )
        dataset = VideoQuestionDataset(load_video_questions(rows, small_data), processor)
        tasks = ["open_ended", "multiple_choice", "count"]
        torch.manual_seed(0)
        model = SiaSamReaForVideoQuestionAnswering(
            tiny_config(tasks=tasks, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1})
        )
        defaults = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
        defaults |= {"num_train_epochs": 1, "per_device_train_batch_size": 2, "save_strategy": "no"}
        args = SiaSamReaTrainingArguments(output_dir=str(tmp_path / "out"), **(defaults | arguments))
        return SiaSamReaTrainer(model, args, train_dataset=dataset, eval_dataset=dataset, processing_class=processor)

    return make


def test_different_numbers_of_candidates_train_and_are_scored_together(make_trainer):
    rows = [choice(f"v{video}.mp4", number) for video in (0, 1, 3) for number in (2, 3, 4)] + [open_ended("v0.mp4")]
    trainer = make_trainer(rows)
    trainer.train()
    assert trainer.state.global_step == 3 * 2 + 1
    output = trainer.predict(trainer.eval_dataset)
    chosen = [line["prediction_text"] for line in output.predictions[:9]]
    assert all(text in CANDIDATES[: len(row["candidates"])] for text, row in zip(chosen, rows))
    assert output.metrics["test_multiple_choice_accuracy"] == sum(text == "dog" for text in chosen) / 9


def test_a_task_without_a_readable_video_is_left_out_of_training_and_wrong_in_evaluation(make_trainer, tmp_path):
    rows = [open_ended("v0.mp4"), open_ended("v1.mp4", "dog"), count("v2.mp4"), choice("v2.mp4", 2)]
    trainer = make_trainer(rows)
    trainer.train()
    assert trainer.state.global_step == 1
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped_videos.jsonl").read_text().split("\n")[:-1]]
    assert [line["question_id"] for line in lines] == ["2", "3"] and all("v2.mp4" in line["error"] for line in lines)
    output = trainer.predict(trainer.eval_dataset)
    assert output.metrics["test_questions"] == 4 and output.metrics["test_unreadable"] == 2
    assert output.metrics["test_count_accuracy"] == output.metrics["test_multiple_choice_accuracy"] == 0
    assert [line["prediction"] is None for line in output.predictions] == [False, False, True, True]
    assert all(line["correct"] is False and "v2.mp4" in line["error"] for line in output.predictions[2:])


def test_an_evaluation_without_one_readable_video_writes_everything_and_training_stops(make_trainer):
    trainer = make_trainer([open_ended("v2.mp4"), count("v2.mp4"), choice("v2.mp4", 3)])
    output = trainer.predict(trainer.eval_dataset)
    assert output.metrics["test_questions"] == output.metrics["test_unreadable"] == 3
    assert output.metrics["test_accuracy"] == 0 and output.metrics["test_count_mse"] == 2**2
    assert [line["correct"] for line in output.predictions] == [False] * 3
    with pytest.raises(UnreadableVideoError, match=r"No training video can be read.*v2\.mp4"):
        trainer.train()


def test_any_right_answer_is_right(make_trainer):
    trainer = make_trainer([open_ended("v0.mp4", ["dog", "cat"]), open_ended("v1.mp4", ["okapi", "giraffe"])])
    output = trainer.predict(trainer.eval_dataset)
    assert output.metrics["test_open_ended_accuracy"] == 0.5  # the vocabulary is cat and dog
    assert output.metrics["test_open_ended_coverage"] == 0.5
    assert [line["answer"] for line in output.predictions] == [["dog", "cat"], ["okapi", "giraffe"]]
    assert [line["correct"] for line in output.predictions] == [True, False]


def test_a_video_too_short_for_a_second_start_is_told_from_steady_answers(make_trainer, small_data, write_video):
    write_video(small_data / "short.mp4", frames=2)
    trainer = make_trainer([open_ended("short.mp4"), open_ended("v0.mp4")], eval_offsets=2)
    metrics = trainer.evaluate()
    assert metrics["eval_one_start_share"] == 1 / 2 and "eval_flip_rate" in metrics
    alone = make_trainer([open_ended("short.mp4")], eval_offsets=2).evaluate()
    assert alone["eval_one_start_share"] == 1 and "eval_flip_rate" not in alone
