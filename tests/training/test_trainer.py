"""Training and evaluation: equation 8, accumulation, several processes, resuming, unreadable videos."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from transformers import TrainerCallback

from modeling_siasamrea.data.dataset import VideoQuestionDataset
from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.processors.video_source import VideoDecodingError
from modeling_siasamrea.training.trainer import SiaSamReaTrainer


TASKS = ["open_ended", "multiple_choice", "count"]


def readable_open_ended(question) -> bool:
    return question.task == "open_ended" and "v2" not in question.video


def parameters(trainer: SiaSamReaTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def test_the_loss_is_equation_8(make_trainer):
    trainer = make_trainer(readable_open_ended, config={"alpha": 0.7})
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    log_p = outputs.logits.log_softmax(dim=1)
    ground_truth = -log_p[torch.arange(4), batch["labels"]].mean()
    siamese = -(outputs.soft_labels * log_p).sum(dim=1).mean()
    torch.testing.assert_close(loss, ground_truth + 0.7 * siamese)


def test_smoothed_labels_are_a_share_of_the_ground_truth_loss(make_trainer):
    trainer = make_trainer(readable_open_ended, config={"alpha": 0.0}, label_smoothing_factor=0.2)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss, outputs = trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)
    expected = torch.nn.functional.cross_entropy(outputs.logits, batch["labels"], label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)


def forget(trainer: SiaSamReaTrainer, *numbers: int) -> None:
    """Takes away the answers of training rows."""
    questions = trainer.train_dataset.questions
    for number in numbers:
        questions[number] = replace(questions[number], answer=None)


@pytest.mark.parametrize("clips", ["anchor", "all"])
@pytest.mark.parametrize("task", TASKS)
def test_rows_without_an_answer_have_the_siamese_loss_alone(make_trainer, task, clips):
    trainer = make_trainer(
        lambda question: question.task == task and "v2" not in question.video,
        config={"alpha": 0.7, "supervised_clips": clips},
        per_device_train_batch_size=3,
        questions_per_video=1,
    )
    forget(trainer, *range(1, len(trainer.train_dataset)))  # one question has an answer
    batch = next(batch for batch in trainer.get_train_dataloader() if (batch["labels"] != -100).sum() == 1)
    place = (batch["labels"] != -100).nonzero().item()
    label = batch["labels"][place]
    batch = trainer._prepare_inputs(batch)
    loss, outputs = trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)
    supervised = outputs.clip_logits[place] if clips == "all" else outputs.logits[place, None]  # (clips, classes)
    if task == "open_ended":
        ground_truth = -supervised.log_softmax(dim=1)[:, label].mean()
    elif task == "count":
        ground_truth = ((supervised - label) ** 2).mean()
    else:
        hinges = (1 - supervised[:, label, None] + supervised).clamp(min=0)  # (clips, candidates), 1 at the right one
        ground_truth = (hinges.sum(dim=1) - 1).mean()
    if task == "count":
        siamese = ((outputs.logits - outputs.soft_labels) ** 2).mean()
    else:
        siamese = -(outputs.soft_labels * outputs.logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(loss, ground_truth + 0.7 * siamese)


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_without_an_answer_trains_by_the_siamese_loss(make_trainer, task, caplog):
    trainer = make_trainer(
        lambda question: question.task == task and "v2" not in question.video,
        max_steps=2,
        per_device_train_batch_size=3,
        label_smoothing_factor=0.1,
        warmup_steps=0,
    )
    rows = trainer.train_dataset
    forget(trainer, *range(len(rows)))
    before = parameters(trainer)
    trainer.train()
    assert f"rows without an answer: {len(rows)} of {len(rows)} ({len(rows)} {task}; the first: '" in caplog.text
    after = parameters(trainer)
    assert any(not torch.equal(before[name], value) for name, value in after.items() if "heads" in name)
    logged = {name: value for logs in trainer.state.log_history for name, value in logs.items()}
    assert logged["loss"] == pytest.approx(logged[f"loss_siamese/{task}"], rel=1e-5) and logged["loss"] > 0
    assert not [name for name in logged if name.startswith(("loss_gt", "anchor_", "soft_label_acc", "soft_label_err"))]


def test_the_log_asks_known_answers_alone_who_is_right(make_trainer):
    trainer = make_trainer(readable_open_ended)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    _, outputs = trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)
    batch["labels"] = outputs.logits.argmax(dim=1)
    batch["labels"][0] = (batch["labels"][0] + 1) % 3
    batch["labels"][1] = -100
    trainer.training_log.sums.clear()
    trainer.compute_loss(trainer.model, batch)
    assert trainer.training_log.means()["anchor_accuracy/open_ended"] == pytest.approx(2 / 3)


def test_rows_without_an_answer_are_refused_where_no_loss_uses_them(make_trainer):
    trainer = make_trainer(config={"alpha": 0})
    forget(trainer, 0, 1, 2, 3, 5, 6)
    sentence = r": 6 of 20 \(5 open_ended, 1 multiple_choice; the first: 'open0-0'\)\. With alpha=0"
    with pytest.raises(ValueError, match=sentence):
        trainer.train()
    assert trainer.evaluate()["eval_questions"] == 20


def test_evaluation_takes_the_loss_of_the_answers_that_are_known(make_trainer):
    trainer = make_trainer(lambda question: question.task == "multiple_choice" and "v2" not in question.video)
    forget(trainer, 1)
    mixed = trainer.evaluate()["eval_loss"]
    del trainer.eval_dataset.questions[1]
    known = VideoQuestionDataset(trainer.eval_dataset.questions, trainer.processing_class)
    assert mixed == pytest.approx(trainer.evaluate(known)["eval_loss"], rel=1e-5)


def test_an_evaluation_without_a_loss_has_none_and_is_never_the_best(make_trainer, monkeypatch, caplog):
    steps = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(readable_open_ended, load_best_model_at_end=True, **steps)
    read = VideoQuestionDataset._read

    def outage(self, *arguments):
        if trainer.state.global_step == 2:
            raise VideoDecodingError("v.mp4", "the storage is gone")
        return read(self, *arguments)

    monkeypatch.setattr(VideoQuestionDataset, "_read", outage)
    trainer.train()
    assert trainer.state.best_global_step == 1 and trainer.state.best_metric > 0
    scores = trainer.evaluate()
    assert "eval_loss" not in scores and scores["eval_unreadable"] == scores["eval_questions"] == 9
    assert "There is no finite eval_loss" in caplog.text


def test_other_data_sets_get_a_sentence(make_trainer):
    dataset = make_trainer().train_dataset
    for other in (Subset(dataset, [0]), ConcatDataset([dataset, dataset])):
        with pytest.raises(ValueError, match=type(other).__name__):
            make_trainer(trainer={"train_dataset": other})
    with pytest.raises(ValueError, match="Training needs a train_dataset"):
        make_trainer(trainer={"train_dataset": None}).train()


def test_two_accumulated_batches_of_four_equal_one_of_eight(make_trainer):
    # SGD without clipping: what moves is the gradient itself.
    plain = {"optim": "sgd", "learning_rate": 1.0, "warmup_steps": 0, "lr_scheduler_type": "constant"}
    plain |= {"max_grad_norm": 0.0, "weight_decay": 0.0, "questions_per_video": 1}
    large = make_trainer(readable_open_ended, per_device_train_batch_size=8, **plain)
    small = make_trainer(readable_open_ended, gradient_accumulation_steps=2, **plain)
    requests = next(iter(large.get_train_dataloader().batch_sampler))
    singles = [request._replace(rows=(row,)) for request in requests for row in request.rows]
    assert len(singles) == 8
    before = parameters(large)
    # The same eight questions in the same order for both.
    small.get_train_dataloader = lambda: small.dataloader(small.train_dataset, [singles[:4], singles[4:]])
    large.get_train_dataloader = lambda: large.dataloader(large.train_dataset, [singles])
    large.train()
    small.train()
    after_large, after_small = parameters(large), parameters(small)
    assert any(not torch.equal(before[name], after_large[name]) for name in before)
    for name in before:
        torch.testing.assert_close(after_small[name], after_large[name], rtol=1e-4, atol=1e-6)


def test_what_is_logged(make_trainer):
    trainer = make_trainer(lambda question: "v2" not in question.video, max_steps=5)
    trainer.train()
    logged = {name: value for logs in trainer.state.log_history for name, value in logs.items()}
    for task in TASKS:
        assert logged[f"loss_gt/{task}"] > 0 and logged[f"loss_siamese/{task}"] >= 0
    for task in TASKS[:2]:
        assert 0 <= logged[f"clip_agreement/{task}"] <= 1
        assert logged[f"soft_label_entropy/{task}"] == pytest.approx(torch.log(torch.tensor(3.0)).item(), abs=0.05)
        assert 0 <= logged[f"soft_label_accuracy/{task}"] <= 1 and 0 <= logged[f"anchor_accuracy/{task}"] <= 1
        # Three clips: an even affinity is 1/2 and 1/2, and no row can be farther from it than 1.
        assert 0 <= logged[f"affinity_deviation/{task}"] <= 1
    assert logged["soft_label_error/count"] >= 0 and logged["anchor_error/count"] >= 0
    assert logged["clip_difference/count"] >= 0
    assert sum(logged[f"w1/{clip}"] for clip in range(3)) == pytest.approx(1)
    assert sum(logged[f"w2/{clip}"] for clip in range(3)) == pytest.approx(1)
    steps = [logs for logs in trainer.state.log_history if "loss" in logs]
    for logs in steps:
        task = next(name.split("/")[1] for name in logs if name.startswith("loss_gt/"))
        assert logs["loss"] == pytest.approx(logs[f"loss_gt/{task}"] + logs[f"loss_siamese/{task}"], rel=1e-5)


def test_a_baseline_decodes_one_clip_and_logs_no_siamese_loss(make_trainer):
    trainer = make_trainer(readable_open_ended, config={"alpha": 0.0, "num_clips": 3})
    assert next(iter(trainer.get_train_dataloader()))["pixel_values_videos"].shape[1] == 1
    trainer.train()
    assert not any(name.startswith("loss_siamese") for logs in trainer.state.log_history for name in logs)


def test_parameter_groups(make_trainer):
    trainer = make_trainer(image_encoder_learning_rate=1e-3, learning_rate=1e-4, weight_decay=0.5)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in trainer.create_optimizer().param_groups
        for parameter in group["params"]
    }
    assert groups["model.image_encoder.encoder.embedder.embedder.convolution.weight"] == (1e-3, 0.5)
    assert groups["model.image_encoder.grid_encoder.weight"] == (1e-4, 0.5)
    assert groups["model.visual_embeddings.LayerNorm.weight"] == (1e-4, 0.0)
    assert groups["heads.open_ended.1.bias"] == (1e-4, 0.0)
    assert groups["siamese_reasoning.w1_logits"] == (1e-4, 0.0)
    assert groups.keys() == {name for name, value in trainer.model.named_parameters() if value.requires_grad}


def test_evaluation_scores_every_row_and_counts_unreadable_ones_as_wrong(make_trainer):
    trainer = make_trainer(save_frames=True)
    rows = trainer.train_dataset.questions
    output = trainer.predict(trainer.eval_dataset)
    sampler = trainer.processing_class.video_processor
    for row, line in zip(rows[:4], output.predictions):
        assert ("frame_times" in line) != ("error" in line)
        if "error" not in line:
            assert line["frame_times"] == sampler.sample_clips_of(row.video, row.start, row.end).times[0].tolist()
    assert [line["question_id"] for line in output.predictions] == [row.question_id for row in rows]
    unreadable = [line for line in output.predictions if "error" in line]
    assert len(unreadable) == output.metrics["test_unreadable"] == 5
    assert all(line["prediction"] is None and not line["correct"] and "v2.mp4" in line["error"] for line in unreadable)
    open_ended = [line for line in output.predictions if line["task"] == "open_ended"]
    expected = sum(line["prediction"] == line["answer"] for line in open_ended) / 12
    assert output.metrics["test_open_ended_accuracy"] == pytest.approx(expected)
    assert {f"test_open_ended_accuracy/t{index}" for index in range(3)} <= output.metrics.keys()
    answers = [line["prediction"] for line in output.predictions if line["task"] == "count" and "error" not in line]
    assert all(isinstance(answer, float) for answer in answers)
    assert output.metrics["test_truncated_texts"] == 0
    cut = make_trainer(max_text_length=4).predict(trainer.eval_dataset).metrics["test_truncated_texts"]
    assert cut == 9 + 3 * 3 + 3  # each readable question, and each of its candidates
    # The same scores whatever the batch size.
    other = make_trainer(per_device_eval_batch_size=1).predict(trainer.eval_dataset)
    assert [line["prediction"] for line in other.predictions if line["task"] != "count"] == [
        line["prediction"] for line in output.predictions if line["task"] != "count"
    ]
    assert other.metrics["test_loss"] == pytest.approx(output.metrics["test_loss"], rel=1e-4)


def test_compute_metrics_gets_the_rows_and_their_answers(make_trainer):
    seen = []

    def metrics(evaluation) -> dict:
        seen.append(evaluation)
        rights = [line["prediction"] == answer for line, answer in zip(evaluation.predictions, evaluation.label_ids)]
        return {"mine": torch.tensor(rights, dtype=torch.float64).mean(), "eval_other": 2}

    trainer = make_trainer(readable_open_ended, trainer={"compute_metrics": metrics})
    scores = trainer.evaluate()
    assert scores["eval_mine"] == pytest.approx(scores["eval_open_ended_accuracy"]) and scores["eval_other"] == 2
    assert isinstance(scores["eval_mine"], float)
    assert seen[0].label_ids == [question.answer for question in trainer.eval_dataset.questions]
    assert [line["question_id"] for line in seen[0].predictions] == [
        row.question_id for row in trainer.eval_dataset.questions
    ]


def test_callbacks_are_called(make_trainer):
    class Steps(TrainerCallback):
        count = 0

        def on_step_end(self, *_, **__):
            self.count += 1

    steps = Steps()
    make_trainer(readable_open_ended, max_steps=2, trainer={"callbacks": [steps]}).train()
    assert steps.count == 2


def test_smoothing_leaves_out_unknown_answers_as_the_loss_does(make_trainer):
    trainer = make_trainer(readable_open_ended, config={"alpha": 0.0}, label_smoothing_factor=0.2)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    batch["labels"][1] = -100
    loss, outputs = trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)
    expected = torch.nn.functional.cross_entropy(outputs.logits, batch["labels"], label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)


def test_skipped_rows_are_listed_once_and_a_new_run_starts_a_new_list(make_trainer):
    trainer = make_trainer(max_steps=20)
    for _ in range(2):
        trainer.train()
        path = Path(trainer.args.output_dir) / "skipped_videos.jsonl"
        skipped = [json.loads(line) for line in path.read_text().splitlines()]
        assert sorted(line["question_id"] for line in skipped) == [
            "choice2",
            "count2",
            "open2-0",
            "open2-1",
            "open2-2",
        ]
        assert trainer.state.log_history[-1]["skipped_questions"] == 5
        trainer = make_trainer(max_steps=20)


@pytest.mark.parametrize("vision", ["resnet", "dinov2"])
def test_a_resumed_run_ends_with_the_same_weights(make_trainer, tiny_dinov2, vision):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "dataloader_num_workers": 0}
    settings |= {"config": {"vision_config": tiny_dinov2} if vision == "dinov2" else None, "learning_rate": 1e-2}
    straight = make_trainer(output="straight", **settings)
    straight.train()
    resumed = make_trainer(output="resumed", **settings)
    resumed.train(resume_from_checkpoint=str(Path(straight.args.output_dir) / "checkpoint-4"))
    for name, value in parameters(straight).items():
        torch.testing.assert_close(parameters(resumed)[name], value)


def test_gradient_checkpointing_and_bf16_train(make_trainer):
    trainer = make_trainer(gradient_checkpointing=True, bf16=True, max_steps=3)
    before = parameters(trainer)
    trainer.train()
    assert all(torch.isfinite(value).all() for value in parameters(trainer).values())
    assert any(not torch.equal(before[name], value) for name, value in parameters(trainer).items())


def test_frames_are_normalised_as_the_processor_does_in_one_go(make_trainer, processor):
    trainer = make_trainer(readable_open_ended)
    batch = next(iter(trainer.get_eval_dataloader()))
    assert batch["pixel_values_videos"].dtype == torch.uint8
    question = trainer.eval_dataset.questions[batch["rows"][0]]
    expected = processor.video_processor([question.video], return_tensors="pt")["pixel_values_videos"][0]
    torch.testing.assert_close(trainer.forward_inputs(batch)["pixel_values_videos"][0], expected)


def test_several_anchor_starts_say_what_separate_evaluations_say(make_trainer, monkeypatch):
    monkeypatch.setattr("modeling_siasamrea.evaluation.answers.as_scored", lambda question, answer: answer)
    together = make_trainer(eval_offsets=3).predict(make_trainer().eval_dataset)
    separate = []
    for k in range(3):
        trainer = make_trainer()
        monkeypatch.setattr(trainer.eval_dataset.video_processor, "eval_offset", (k, 3), raising=False)
        separate.append(trainer.predict(trainer.eval_dataset))
    rows = trainer.eval_dataset.questions
    for number, line in enumerate(together.predictions):
        assert line["answers"] == [output.predictions[number]["prediction"] for output in separate]
    for name, value in separate[0].metrics.items():
        if not name.endswith(("runtime", "per_second", "preparation_time")):
            assert together.metrics[name] == value, name
    accuracies = [output.metrics["test_count_accuracy"] for output in separate]
    assert together.metrics["test_count_expected_accuracy"] == pytest.approx(sum(accuracies) / 3)
    read = [line["answers"] for line, row in zip(together.predictions, rows) if "v2" not in row.video]
    assert any(len(set(answers)) > 1 for answers in read)
    assert "test_flip_rate" in together.metrics and "test_flip_rate" not in separate[0].metrics
    assert together.metrics["test_accuracy_standard_error"] > 0


def test_shuffled_frames_answer_the_same_because_the_network_takes_their_mean(make_trainer):
    trainer = make_trainer(lambda question: "v2" not in question.video, eval_offsets=2)
    output = trainer.predict(trainer.eval_dataset)
    assert output.metrics["test_shuffled_accuracy"] == output.metrics["test_accuracy"]
    assert output.metrics["test_shuffled_flip_rate"] == 0


def test_a_task_without_a_head_is_refused(make_trainer, small_data, processor, tiny_config):
    with pytest.raises(ValueError, match="'count', but the model has heads for"):
        trainer = make_trainer(readable_open_ended)
        trainer.method.tasks = ["open_ended"]
        trainer.evaluate(
            VideoQuestionDataset(load_video_questions(small_data / "rows.jsonl", small_data)[4:5], processor)
        )


def test_a_candidate_that_can_never_fit_is_refused_before_the_run(make_trainer):
    trainer = make_trainer(rows=lambda question: question.task == "multiple_choice")
    trainer.data_collator.check_candidates(trainer.train_dataset.questions)
    long = "dog " * 40
    questions = [
        replace(question, candidates=("cat", long, "jump")) if question.question_id == "choice1" else question
        for question in trainer.train_dataset.questions
    ]
    dataset = VideoQuestionDataset(questions, trainer.processing_class)
    sentence = r"'choice1' has a candidate of 42 tokens, 'dog dog .*; the limit is 32"
    with pytest.raises(ValueError, match=sentence):
        make_trainer(trainer={"train_dataset": dataset})
    with pytest.raises(ValueError, match=sentence):
        trainer.predict(dataset)
