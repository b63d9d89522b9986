"""Training and evaluating tiny video-language models: equation 8, learning, resuming, several processes, saving."""

import dataclasses
import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tiny_video_language_models import tiny
from transformers import AutoModelForImageTextToText, AutoProcessor

from modeling_siasamrea.data.questions import VideoQuestion, load_video_questions
from modeling_siasamrea.modeling_siasamrea import NonFiniteError
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings, add_lora
from modeling_siasamrea.video_language.data import VideoClipDataset
from modeling_siasamrea.video_language.trainer import (
    VideoLanguageTrainer,
    VideoLanguageTrainingArguments,
    written_answer,
)


COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}


def write_colour(path: Path, colour: tuple[int, int, int], frames: int = 24) -> None:
    """A video of one colour with a little noise, 4 frames a second."""
    rng = np.random.default_rng(len(path.name) + sum(colour))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            pixels = np.clip(np.array(colour) + rng.normal(0, 8, (64, 64, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Eight videos of four colours, one of them damaged, with questions of every task about each."""
    folder = tmp_path_factory.mktemp("colours")
    rows = []
    for number in range(8):
        name = list(COLOURS)[number % 4]
        video = f"v{number}.mp4"
        if number == 6:
            (folder / video).write_bytes(b"no video")
        else:
            write_colour(folder / video, COLOURS[name], frames=20 + 4 * (number % 3))
        rows.append({"video": video, "question": "what colour ?", "answer": name, "question_id": f"open{number}"})
        choice = {"video": video, "question": "which ?", "candidates": list(COLOURS), "answer": name}
        rows.append(choice | {"question_id": f"choice{number}"})
        count = {"video": video, "question": "how many ?", "answer": number, "task": "count"}
        rows.append(count | {"question_id": f"count{number}"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def make_trainer(tmp_path, colours):
    """A trainer on the colours; `rows` filters its questions, keyword arguments override the training arguments."""

    def make(
        rows=lambda question: True, family="qwen3_vl", settings=None, output="out", adapt=None, **arguments
    ) -> VideoLanguageTrainer:
        questions = [row for row in load_video_questions(colours / "rows.jsonl", colours) if rows(row)]
        model, processor = tiny(family)
        if adapt is not None:
            model = adapt(model)
        settings = {"num_clips": 3, "frames_per_clip": 4, "max_new_tokens": 8} | (settings or {})
        processor = VideoLanguageProcessor(processor, VideoLanguageSettings(**settings))
        dataset = VideoClipDataset(questions, processor)
        defaults = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
        defaults |= {"max_steps": 2, "save_strategy": "no"}
        args = VideoLanguageTrainingArguments(output_dir=str(tmp_path / output), **(defaults | arguments))
        return VideoLanguageTrainer(
            model, args, train_dataset=dataset, eval_dataset=dataset, processing_class=processor
        )

    return make


def open_ended(question) -> bool:
    return question.task == "open_ended" and "v6" not in question.video


def parameters(trainer: VideoLanguageTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def logged(trainer: VideoLanguageTrainer) -> dict[str, float]:
    return {name: value for logs in trainer.state.log_history for name, value in logs.items()}


def test_training_evaluating_and_what_is_logged(make_trainer):
    trainer = make_trainer(settings={"alpha": 0.5}, max_steps=6)
    trainer.train()
    steps = [logs for logs in trainer.state.log_history if "loss" in logs]
    for logs in steps:
        task = next(name.split("/")[1] for name in logs if name.startswith("loss_gt/"))
        expected = logs[f"loss_gt/{task}"] + 0.5 * logs[f"loss_siamese/{task}"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-4)
        for name in ("clip_agreement", "soft_label_accuracy", "anchor_accuracy"):
            assert 0 <= logs[f"{name}/{task}"] <= 1
        assert 0 <= logs[f"affinity_deviation/{task}"] <= 1
        assert 0 < logs[f"soft_label_entropy/{task}"] < 6
    assert logged(trainer)["skipped_questions"] == 3
    skipped = [json.loads(line) for line in open(Path(trainer.args.output_dir) / "skipped_videos.jsonl")]
    assert {line["question_id"] for line in skipped} == {"open6", "choice6", "count6"}

    output = trainer.predict(trainer.eval_dataset)
    rows = trainer.eval_dataset.questions
    assert [line["question_id"] for line in output.predictions] == [row.question_id for row in rows]
    assert output.metrics["test_unreadable"] == 3 and output.metrics["test_loss"] > 0
    for line in output.predictions:
        assert ("error" in line) == ("v6" in line["video"])
        if line["task"] == "multiple_choice" and "error" not in line:
            assert line["prediction_text"] in COLOURS and 0.25 <= line["score"] <= 1
    # The same answers whatever else is in a batch.
    alone = make_trainer(per_device_eval_batch_size=1)
    alone.model.load_state_dict(trainer.model.state_dict())
    others = alone.predict(alone.eval_dataset)
    assert [line["prediction"] for line in others.predictions] == [line["prediction"] for line in output.predictions]
    assert others.metrics["test_loss"] == pytest.approx(output.metrics["test_loss"], rel=1e-4)


def test_a_teacher_that_sees_more_in_training(make_trainer):
    settings = {"num_clips": 2, "teacher_frames": 8, "reasoning_weights": "siamese"}
    trainer = make_trainer(open_ended, settings=settings, max_steps=1)
    (batch,) = (batch for batch, _ in zip(trainer.get_train_dataloader(), range(1)))
    student, teacher = batch["parts"][0]["clips"]
    assert teacher["video_grid_thw"][:, 0].tolist() == [2 * frames for frames in student["video_grid_thw"][:, 0]]
    trainer.train()
    assert logged(trainer)["loss_siamese/open_ended"] > 0
    with pytest.raises(ValueError, match="evidence"):  # these rows have no span
        make_trainer(open_ended, settings=settings | {"teacher_span": True}).get_train_dataloader()


def test_a_tiny_model_learns_four_colours(make_trainer):
    trainer = make_trainer(
        lambda question: question.task == "multiple_choice" and "v6" not in question.video,
        settings={"alpha": 0, "multiple_choice": "letters"},
        max_steps=40,
        learning_rate=6e-3,
        per_device_train_batch_size=4,
        logging_steps=20,
    )
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] == 1.0


SGD = {"optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "lr_scheduler_type": "constant"}
SGD |= {"max_grad_norm": 0.0, "weight_decay": 0.0}


def test_two_accumulated_batches_of_two_equal_one_of_four(make_trainer):
    adaptive = {"frames_per_clip": "adaptive"}  # clips of different numbers of frames are run apart
    large = make_trainer(open_ended, settings=adaptive, per_device_train_batch_size=4, max_steps=1, **SGD)
    small = make_trainer(
        open_ended,
        settings=adaptive,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=1,
        **SGD,
    )
    before = parameters(large)
    requests = next(iter(large.get_train_dataloader().batch_sampler))
    small.get_train_dataloader = lambda: small.dataloader(small.train_dataset, [requests[:2], requests[2:]])
    large.get_train_dataloader = lambda: large.dataloader(large.train_dataset, [requests])
    large.train()
    small.train()
    assert any(not torch.equal(before[name], value) for name, value in parameters(large).items())
    for name, value in parameters(large).items():
        torch.testing.assert_close(parameters(small)[name], value, rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_and_bf16_train_adapters_alone(make_trainer):
    trainer = make_trainer(adapt=lambda model: add_lora(model, 2), gradient_checkpointing=True, bf16=True, max_steps=3)
    before = parameters(trainer)
    trainer.train()
    after = parameters(trainer)
    moved = {name for name, value in after.items() if not torch.equal(before[name], value)}
    assert moved and all("lora_" in name and "language_model" in name for name in moved)
    assert all(torch.isfinite(value).all() for value in after.values())


def test_an_adapter_answers_the_same_with_transformers_and_peft_alone(make_trainer, tmp_path):
    from peft import PeftModel

    def saved_base(model):
        model.save_pretrained(tmp_path / "base")
        return add_lora(AutoModelForImageTextToText.from_pretrained(tmp_path / "base"), 4)

    trainer = make_trainer(open_ended, adapt=saved_base, max_steps=2, learning_rate=0.05)
    trainer.train()
    trainer.save_model()
    folder = Path(trainer.args.output_dir)
    assert not any((folder / name).exists() for name in ("model.safetensors", "config.json"))
    batch = trainer._prepare_inputs(next(iter(trainer.get_eval_dataloader())))
    prompts = batch["parts"][0]["shared"]["inputs"]
    trainer.model.eval()
    ours = trainer.model.generate(**prompts, max_new_tokens=6, do_sample=False)

    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    assert not torch.equal(base.generate(**prompts, max_new_tokens=6, do_sample=False), ours)
    plain = PeftModel.from_pretrained(base, folder)
    assert torch.equal(plain.generate(**prompts, max_new_tokens=6, do_sample=False), ours)
    direct = AutoModelForImageTextToText.from_pretrained(folder)
    assert torch.equal(direct.generate(**prompts, max_new_tokens=6, do_sample=False), ours)

    processor = VideoLanguageProcessor.from_pretrained(folder)
    assert processor.settings == trainer.processing_class.settings
    assert type(AutoProcessor.from_pretrained(folder)) is type(trainer.processing_class.processor)
    again = processor(["what colour ?"], [(torch.zeros(4, 3, 40, 60, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0], 4.0)])
    before = trainer.processing_class(
        ["what colour ?"], [(torch.zeros(4, 3, 40, 60, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0], 4.0)]
    )
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_a_fully_trained_checkpoint_loads_with_transformers_alone(make_trainer):
    trainer = make_trainer(open_ended)
    torch.nn.init.normal_(trainer.model.get_output_embeddings().weight)
    trainer.save_model()
    model = AutoModelForImageTextToText.from_pretrained(trainer.args.output_dir)
    assert type(model) is type(trainer.model)
    for name, value in model.named_parameters():
        assert torch.equal(value, dict(trainer.model.named_parameters())[name])
    config = json.loads((Path(trainer.args.output_dir) / "config.json").read_text())
    assert "auto_map" not in config and config["model_type"] == "qwen3_vl"


@pytest.mark.end_to_end
def test_two_processes_train_as_one(make_trainer, tmp_path, colours, gloo_pair):
    adaptive = {"frames_per_clip": "adaptive"}  # so that the processes run the model different numbers of times
    alone = make_trainer(open_ended, settings=adaptive, max_steps=2, per_device_train_batch_size=4, **SGD)
    alone.train()
    answers = gloo_pair.run("train_tiny_vlm", "train_in_two", str(colours), str(tmp_path / "two"), adaptive, SGD)
    predictions, history = answers[0]
    two = AutoModelForImageTextToText.from_pretrained(tmp_path / "two")
    for name, value in parameters(alone).items():
        torch.testing.assert_close(dict(two.named_parameters())[name], value, rtol=1e-3, atol=1e-5)
    assert len(predictions) == 8 and sum("error" in line for line in predictions) == 1
    for name in ("loss", "anchor_accuracy/open_ended", "soft_label_entropy/open_ended"):
        logged = [[logs[name] for logs in of_run if name in logs] for of_run in (history, alone.state.log_history)]
        assert len(logged[0]) == 2 and logged[0] == pytest.approx(logged[1], rel=1e-3)


@pytest.mark.end_to_end
def test_fsdp_evaluates_choices_with_other_numbers_of_questions_in_each_process(tmp_path, colours, gloo_pair):
    method = {"frames_per_clip": 4}
    out = str(tmp_path / "two")
    (predictions, _), _ = gloo_pair.run("train_tiny_vlm", "train_in_two", str(colours), out, method, SGD, True)
    assert len(predictions) == 8 and sum("error" in line for line in predictions) == 1


def test_several_starts_and_shuffled_frames_are_answered(make_trainer):
    some = {"open0", "open1", "open6"}
    trainer = make_trainer(lambda question: question.question_id in some, eval_offsets=3)
    centred, second, shuffled = {}, {"eval_offset": (1, 3)}, {"shuffle_frames": True}
    pixels, texts = [], []
    for trainer.eval_dataset.eval_sampling in (centred, second, shuffled):
        asked = next(iter(trainer.get_eval_dataloader()))["parts"][0]["shared"]
        pixels.append(asked["inputs"]["pixel_values_videos"])
        texts.append(trainer.processing_class.tokenizer.batch_decode(asked["inputs"]["input_ids"]))
    assert not torch.equal(pixels[0], pixels[2])
    assert texts[0] == texts[2] != texts[1]  # other frames at the same times
    output = trainer.predict(trainer.eval_dataset)
    for line in output.predictions:
        assert len(line["answers"]) == 3
        assert "error" in line or line["answers"][0] == line["prediction"]
    assert 0 <= output.metrics["test_flip_rate"] <= 1
    assert {"test_consensus_accuracy", "test_shuffled_accuracy", "test_accuracy_standard_error"} <= set(output.metrics)
    trainer.args.eval_offsets = 1
    centred = trainer.predict(trainer.eval_dataset).predictions
    assert [line["prediction"] for line in centred] == [line["prediction"] for line in output.predictions]


def test_any_right_answer_counts_and_the_first_is_trained_on():
    question = VideoQuestion("v", "what colour ?", "Red", "open_ended", "1")
    assert written_answer(question, "red.\n") == "Red" and written_answer(question, "Crimson") == "crimson"
    several = dataclasses.replace(question, other_answers=("Crimson",))
    assert written_answer(several, "crimson.") == "Crimson"
    assert written_answer(dataclasses.replace(question, task="count"), "About three.") == 3.0
    processor = VideoLanguageProcessor(tiny("qwen3_vl")[1], VideoLanguageSettings())
    assert processor.answer_text(several) == "Red"


def test_rows_without_an_answer_are_refused_in_training_alone(make_trainer):
    trainer = make_trainer(open_ended)
    questions = trainer.train_dataset.questions
    questions[1] = dataclasses.replace(questions[1], answer=None)
    with pytest.raises(ValueError, match=r"rows without an answer: 1 of 7 .*'open1'"):
        trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_questions"] == 7 and metrics["eval_loss"] > 0  # that of the rows beside it


def test_numbers_that_are_not_finite_stop_training_and_evaluation(make_trainer):
    trainer = make_trainer(open_ended, max_grad_norm=0.0)
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight[0] = math.nan
    with pytest.raises(NonFiniteError, match=r"step 1 .*task 'open_ended'.*about .*v\d.mp4"):
        trainer.train()
    with pytest.raises(NonFiniteError, match=r"scores of \d of \d questions are not finite"):
        trainer.evaluate()


def test_a_user_scores_answers_even_where_no_video_can_be_read(make_trainer):
    trainer = make_trainer(lambda question: "v6" in question.video)
    trainer.compute_metrics = lambda answers: {"none": answers.predictions.count(None), "rows": len(answers.label_ids)}
    metrics = trainer.evaluate()
    assert metrics["eval_unreadable"] == metrics["eval_rows"] == 3 and metrics["eval_accuracy"] == 0.0


def test_gradients_with_checkpointing_and_under_bf16(make_trainer):
    ways = ({}, {"gradient_checkpointing": True}, {"bf16": True})
    trainers = [make_trainer(open_ended, max_steps=1, **way, **SGD) for way in ways]
    before = parameters(trainers[0])
    for trainer in trainers:
        trainer.train()
    plain, checkpointed, rounded = map(parameters, trainers)
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=1e-4, atol=1e-6)
        step, half = value - before[name], rounded[name] - before[name]
        if step.norm() > 1e-3:
            assert torch.cosine_similarity(step.flatten(), half.flatten(), dim=0) > 0.9, name
