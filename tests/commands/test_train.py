"""The training script from end to end: configuration, reports, resuming, LoRA."""

import json
import re
from collections.abc import Callable

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor
from modeling_siasamrea.commands import siasamrea_command, train
from modeling_siasamrea.commands.checkpoint import load_answerer
from modeling_siasamrea.data.batches import SiaSamReaDataCollator
from modeling_siasamrea.data.dataset import VideoQuestionDataset, VideoRequest
from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.training.start import build_model


ANSWERS = ("bird", "fish", "bird", "cow", "owl")


@pytest.fixture
def write_config(write_run, tiny_config) -> Callable[..., str]:
    """Writes the configuration of a run of a tiny model; keyword arguments override it."""
    tiny = tiny_config().to_dict()
    fields = {"vision_config": tiny["vision_config"], "text_config": tiny["text_config"], "num_clips": 3}
    settings = {"model_config": fields, "video_processor": {"size": {"longest_edge": 64}, "frames_per_clip": 2}}
    settings |= {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    return lambda **overrides: write_run(**settings | overrides)


def test_a_run_writes_a_complete_checkpoint_and_its_reports(write_config, small_data, tmp_path, capsys, monkeypatch):
    ticks, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *to, **how: ticks.extend(figure.axes[0].get_xticks()) or save(figure, *to, **how),
    )
    best = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    best |= {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    report = train.main(
        [write_config(do_eval=True, validation_file=str(small_data / "rows.jsonl"), show_examples=True, **best)]
    )
    kept = report["validation"]["scores"]["accuracy"]
    run = tmp_path / "run"
    predictions = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (small_data / "rows.jsonl").read_text().splitlines()]
    assert [line["question_id"] for line in predictions] == [row["question_id"] for row in rows]
    assert json.loads((run / "metrics.json").read_text()) == report
    assert report["test"]["scores"]["unreadable"] == 5
    assert set(report["test"]["baselines"]) == {"majority", "question only"}
    config = SiaSamReaConfig.from_pretrained(run)
    assert [config.id2label[index] for index in range(3)] == ["cat", "dog", "red"]
    assert config.tasks == ["open_ended", "multiple_choice", "count"]
    card = (run / "README.md").read_text()
    assert "model-index:" in card and "| learning_rate | 0.001 |" in card and "{{" not in card
    accuracy = report["test"]["scores"]["multiple_choice_accuracy"]
    assert f"{accuracy:.3f} ± " in card and "license" not in card
    assert f"| test | {small_data / 'rows.jsonl'} | 20 | 4 |" in card and "candidates=['cat', 'dog', 'jump']" in card
    assert (run / "validation_predictions.jsonl").read_text() == (run / "predictions.jsonl").read_text()
    printed = capsys.readouterr().out
    assert "question only" in printed and printed.count("\nQ: ") == 4 and "per_second" not in printed
    assert re.search(rf"The model of step [24] is kept: .* validation accuracy of {kept:.3f} is the best", printed)
    assert "Questions: 20, wrong because their video cannot be read: 5." in printed
    skipped = (run / "skipped_videos.jsonl").read_text().count("\n")
    assert f"left out of training, because their video cannot be read: {skipped}, see" in printed
    assert f"rows.jsonl | 20 | 4 | {skipped} |" in card and "rows.jsonl | 20 | 4 | 5 |" in card
    assert "learned nothing" in printed or report["test"]["scores"]["accuracy"] > 0.38
    with Image.open(run / "example_1.png") as picture:
        assert picture.size == (2 * 118 + 6, 48 + 3 * 134)  # two frames wide, three clips high
    with Image.open(run / "training.png") as picture:
        assert picture.width > 1000 and ticks and all(tick == int(tick) for tick in ticks)

    # The folder alone gives the same answers.
    evaluation = [write_config(), "--model_name_or_path", str(run), "--do_train", "false"]
    again = train.main([*evaluation, "--output_dir", str(tmp_path / "again")])
    assert again["test"]["scores"]["loss"] == pytest.approx(report["test"]["scores"]["loss"], rel=1e-5)


def test_a_run_resumes_from_the_last_whole_checkpoint_in_its_folder(write_config, tmp_path, caplog):
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "do_predict": False}
    train.main([write_config(**saving)])
    whole = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "run").state_dict()
    run = tmp_path / "run"
    for words in ([], ["--resume_from_checkpoint", "True"]):
        # A kill left the last one unfinished.
        (run / "checkpoint-2" / "trainer_state.json").unlink()
        caplog.clear()
        report = train.main([write_config(**saving), *words])
        assert f"The run resumes from {run / 'checkpoint-1'}" in caplog.text
    assert json.loads((run / "trainer_state.json").read_text())["global_step"] == 2
    assert report["train"]["scores"]["train_runtime"] > 0
    for name, value in SiaSamReaForVideoQuestionAnswering.from_pretrained(run).state_dict().items():
        torch.testing.assert_close(value, whole[name])


def test_skipped_rows_and_unknown_answers_are_left_out_of_training_and_unknown_ones_are_wrong(write_config, tmp_path):
    (tmp_path / "skip.jsonl").write_text('{"video": "v2.mp4"}\n')
    report = train.main([write_config(max_steps=1, vocabulary_size=2, skip_list=str(tmp_path / "skip.jsonl"))])
    assert report["test"]["scores"]["open_ended_coverage"] == pytest.approx(8 / 12)
    assert report["test"]["scores"]["open_ended_accuracy"] <= 8 / 12
    assert not (tmp_path / "run" / "skipped_videos.jsonl").exists()


@pytest.fixture
def start(small_data, tiny_config, tmp_path) -> dict:
    """Arguments of a run of one step that starts from a checkpoint with all heads."""
    rows = load_video_questions(small_data / "rows.jsonl", small_data)
    tiny = tiny_config().to_dict()
    fields = {name: tiny[name] for name in ("vision_config", "text_config", "num_clips")}
    frames = {"size": {"longest_edge": 64}, "frames_per_clip": 2}
    for part in build_model(rows, config=fields, video_processor=frames):
        part.save_pretrained(tmp_path / "start")
    arguments = {"model_name_or_path": str(tmp_path / "start"), "model_config": None, "video_processor": None}
    return arguments | {"do_predict": False, "max_steps": 1}


def test_a_checkpoint_is_fine_tuned_on_other_answers_and_with_more_clips(write_config, start, tmp_path):
    rows = [{"video": "v0.mp4", "question": "what is it ?", "answer": answer} for answer in ANSWERS]
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    start |= {"train_file": str(other), "model_config": {"num_clips": 5}}
    with pytest.raises(ValueError, match="--new_vocabulary"):
        train.main([write_config(**start)])
    train.main([write_config(**start), "--new_vocabulary"])
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "run")
    assert list(model.config.id2label.values()) == ["bird", "cow", "fish", "owl"]
    assert model.config.tasks == ["open_ended", "multiple_choice", "count"]
    assert model.siamese_reasoning.w1_logits.shape == (5,)


@pytest.fixture
def forget(small_data, tmp_path) -> Callable[..., str]:
    """Writes the small data without the answers of some questions: missing, null or blank in turn."""

    def write(*starts: str) -> str:
        rows = [json.loads(line) for line in (small_data / "rows.jsonl").read_text().splitlines()]
        forgotten = [row for row in rows if row["question_id"].startswith(starts)]
        for number, row in enumerate(forgotten):
            del row["answer"]
            row |= ({}, {"answer": None}, {"answer": " "})[number % 3]
        path = tmp_path / "forgotten.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def test_rows_without_an_answer_are_trained_on_by_the_siamese_loss(write_config, forget, tmp_path, caplog):
    rows = forget("open0", "open1-0", "open1-2", "choice0", "count0")
    report = train.main([write_config(train_file=rows, max_steps=2)])
    assert (
        "Training: rows without an answer: 7 of 20 (5 open_ended, 1 multiple_choice, 1 count; the first: 'open0-0'). "
        "The siamese loss alone learns from them."
    ) in caplog.messages
    config = SiaSamReaConfig.from_pretrained(tmp_path / "run")
    assert list(config.id2label.values()) == ["red", "cat", "dog"]  # by how often they are left
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "run")
    assert model.heads["count"][-1].bias.item() == pytest.approx(3, abs=0.1)  # the mean of 2, 3 and 4
    assert report["test"]["scores"]["open_ended_coverage"] == 1
    assert set(report["test"]["baselines"]) == {"majority", "question only"}


def test_without_a_siamese_loss_rows_without_an_answer_are_left_out(write_config, start, forget, caplog):
    baseline = ["--model_config", '{"alpha": 0}']
    train.main([write_config(train_file=forget("open0", "choice0"), do_predict=False, max_steps=1), *baseline])
    sentence = ": 4 of 20 (3 open_ended, 1 multiple_choice; the first: 'open0-0'). They are left out"
    assert sentence in caplog.text
    with pytest.raises(ValueError, match="needs at least one question"):
        train.main([write_config(**start | {"train_file": forget("o", "c")}), *baseline])


def test_a_new_head_needs_an_answer_to_learn_from(write_config, start, forget, caplog):
    with pytest.raises(ValueError, match="No training row of the task 'count' has an answer"):
        train.main([write_config(train_file=forget("count"))])
    start["train_file"] = forget("o", "c")
    with pytest.raises(ValueError, match="No training row of the task 'open_ended' has an answer"):
        train.main([write_config(**start), "--new_vocabulary"])
    report = train.main([write_config(**start)])  # a checkpoint that answers such questions teaches itself
    assert "Training: rows without an answer: 20 of 20" in caplog.text and report["train"]["scores"]["train_loss"] > 0


def test_a_lora_adapter_alone_gives_the_same_answers(write_config, small_data, tmp_path):
    pytest.importorskip("peft")
    report = train.main([write_config(lora_rank=2, max_steps=2, save_strategy="steps", save_steps=2)])
    run = tmp_path / "run"
    assert (run / "adapter_model.safetensors").is_file() and not (run / "model.safetensors").exists()
    evaluation = {"model_name_or_path": str(run), "do_train": False, "output_dir": str(tmp_path / "again")}
    again = train.main([write_config(**evaluation)])
    assert again["test"]["scores"]["loss"] == pytest.approx(report["test"]["scores"]["loss"], rel=1e-5)
    answers, same = ((folder / "predictions.jsonl").read_text() for folder in (run, tmp_path / "again"))
    assert [json.loads(line)["prediction"] for line in answers.splitlines() if '"count"' not in line] == [
        json.loads(line)["prediction"] for line in same.splitlines() if '"count"' not in line
    ]
    # A checkpoint of the run has its answers too, not those of a base model.
    checkpoint = next(run.glob("checkpoint-*"))
    assert load_answerer(checkpoint).model.config.id2label == load_answerer(run).model.config.id2label
    assert (checkpoint / "config.json").is_file()
    saved = load_file(run / "adapter_model.safetensors")
    for part in ("lora_A", "grid_encoder", "visual_embeddings", "siamese_reasoning", "heads.count"):
        assert any(part in name for name in saved)
    # The adapter did change the model.
    dataset = VideoQuestionDataset(
        load_video_questions(small_data / "rows.jsonl", small_data), SiaSamReaProcessor.from_pretrained(run)
    )
    collator = SiaSamReaDataCollator(SiaSamReaProcessor.from_pretrained(run), {})
    batch = collator(dataset.__getitems__([VideoRequest((0, 1))]))
    frames = dataset.video_processor.normalize_frames(batch["pixel_values_videos"])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "frame_mask", "video_index", "task")}
    adapted, base = map(SiaSamReaForVideoQuestionAnswering.from_pretrained, (run, run / "base_model"))
    with torch.no_grad():
        difference = adapted(pixel_values_videos=frames, **inputs).logits - base(frames, **inputs).logits
    assert difference.abs().max() > 1e-4


def test_work_without_rows_or_model_is_refused(write_config):
    with pytest.raises(ValueError, match="no validation rows: give --validation_file"):
        train.main([write_config(do_eval=True)])
    with pytest.raises(ValueError, match="give --model_name_or_path"):
        train.main([write_config(do_train=False)])
    with pytest.raises(ValueError, match="nothing to do: give --train_file"):
        train.main([write_config(do_train=False, do_predict=False)])


def test_files_that_are_missing_or_something_else_are_refused_by_name(write_config, small_data, tmp_path, capsys):
    (tmp_path / "file").touch()
    unanswered = [{"video": "v0.mp4", "question": "what ?"}]
    (tmp_path / "unanswered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unanswered))
    all_videos = "".join(json.dumps({"video": f"v{number}.mp4"}) + "\n" for number in range(4))
    (tmp_path / "all.jsonl").write_text(all_videos)
    for wrong, sentence in (
        ({"train_file": str(tmp_path / "none.jsonl")}, "none.jsonl does not exist"),
        ({"test_file": str(tmp_path / "none.csv")}, "none.csv does not exist"),
        ({"skip_list": str(tmp_path / "none.jsonl")}, "none.jsonl does not exist"),
        ({"skip_list": str(tmp_path / "all.jsonl")}, "No training row is left"),
        ({"video_folder": str(tmp_path / "none")}, "The video folder"),
        ({"output_dir": str(tmp_path / "file")}, "file cannot be written"),
        ({"output_dir": str(tmp_path / "file" / "below")}, "below cannot be written"),
        ({"model_name_or_path": str(tmp_path / "none")}, "cannot be loaded"),
        ({"do_eval": True, "validation_file": str(tmp_path / "unanswered.jsonl")}, "answer is missing"),
        ({"benchmarks": ["msvdqa"], "annotations": str(tmp_path)}, "There is no benchmark 'msvdqa'"),
        ({"benchmarks": ["msvd_qa"], "annotations": str(tmp_path / "none")}, "do not exist"),
        ({"benchmarks": ["msvd_qa"], "annotations": str(tmp_path / "file"), "do_eval": True}, "--annotations"),
    ):
        assert siasamrea_command.main(["train", write_config(**wrong)]) == 2
        said = capsys.readouterr().err.splitlines()
        assert sentence in said[-1] and "Traceback" not in "".join(said), (wrong, said)
    # Before the data is made.
    with pytest.raises(SystemExit):
        siasamrea_command.main(["train", write_config(vision_model=str(tmp_path / "none"))])
    assert "--vision_model and --text_model together" in capsys.readouterr().err


def test_a_run_whose_videos_are_all_unreadable_says_so(write_config, tmp_path, capsys):
    videos = tmp_path / "empty"
    videos.mkdir()
    assert siasamrea_command.main(["train", write_config(video_folder=str(videos), do_predict=False)]) == 1
    assert "Traceback" not in capsys.readouterr().err
