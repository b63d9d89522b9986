"""The training script of video-language models from end to end, with LoRA and without."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_video_language_models import tiny

from modeling_siasamrea.commands import siasamrea_command, train_vlm
from modeling_siasamrea.video_language import VideoLanguageSettings, add_lora
from modeling_siasamrea.video_language.loading import load_video_language_model


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A checkpoint as the hub would have it."""
    folder = tmp_path_factory.mktemp("start")
    model, processor = tiny("qwen3_vl")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def write_config(write_run, start) -> Callable[..., str]:
    """Writes the configuration of a run of the tiny model; keyword arguments override it."""
    method = {"num_clips": 2, "frames_per_clip": 4, "max_new_tokens": 4}
    settings = {"model_name_or_path": str(start), "method": method, "max_steps": 2}
    return lambda **overrides: write_run(**settings | overrides)


def test_a_run_writes_an_adapter_and_its_reports(write_config, small_data, tmp_path, capsys):
    rows = [json.loads(line) for line in (small_data / "rows.jsonl").read_text().splitlines()]
    report = train_vlm.main([write_config(do_eval=True, validation_file=str(small_data / "rows.jsonl"))])
    folder = tmp_path / "run"
    assert {"adapter_config.json", "adapter_model.safetensors", "siamese_reasoning.json", "processor_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["question_id"] for line in predictions] == [row["question_id"] for row in rows]
    assert report == json.loads((folder / "metrics.json").read_text())
    assert report["test"]["scores"]["questions"] == len(rows) and report["test"]["scores"]["unreadable"] == 5
    assert set(report["test"]["baselines"]) == {"majority", "question only"}
    skipped = (folder / "skipped_videos.jsonl").read_text().splitlines()
    assert all("v2.mp4" in line for line in skipped)
    card = (folder / "README.md").read_text()
    assert "| num_clips | 2 |" in card and "LoRA adapter" in card and "library_name: peft" in card
    assert (
        "| letters |" in card
        and "ocabulary" not in card
        and "| accuracy (mean over tasks) |" in card
        and "{{" not in card
    )
    # The adapter answers the same when it is evaluated on its own.
    again = train_vlm.main(
        [
            write_config(
                do_train=False, train_file=None, model_name_or_path=str(folder), output_dir=str(tmp_path / "again")
            )
        ]
    )
    assert again["test"]["scores"]["accuracy"] == report["test"]["scores"]["accuracy"]
    assert (tmp_path / "again" / "predictions.jsonl").read_text() == (folder / "predictions.jsonl").read_text()


def test_all_weights_train_where_that_is_asked_for(write_config, tmp_path):
    train_vlm.main([write_config(full_training=True, do_predict=False)])
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "adapter_config.json").exists()


def test_arguments_that_make_no_sense_are_sentences(write_config, tiny_config, tmp_path, capsys):
    own_network = str(tmp_path / "own")
    tiny_config().save_pretrained(own_network)
    unlabelled = str(tmp_path / "unlabelled.jsonl")
    Path(unlabelled).write_text('{"video": "v0.mp4", "question": "what ?"}\n')
    for overrides, said in (
        ({"method": {"num_clip": 2}}, "The settings for "),
        ({"method": {"frames_per_clip": 0}}, "The settings do not fit the model: frames_per_clip must be 1 or more"),
        ({"settings": "/no/such/file.json"}, "The settings /no/such/file.json are wrong: The file /no/such/file.json"),
        ({"full_training": True, "lora_target_modules": ["q_proj"]}, "not both"),
        ({"lora_rank": 0}, "must be 1 or more"),
        ({"lora_target_modules": ["q_proj", "nothing"]}, "by nothing; its linear layers end with"),
        ({"method": {"omega": 3.0}}, "omega"),
        ({"model_name_or_path": None}, "Which model"),
        ({"model_name_or_path": own_network}, "is a SiaSamRea checkpoint"),
        ({"model_name_or_path": "/no/such/folder"}, "/no/such/folder cannot be loaded"),
        ({"family_video_processor": {"edge": 3}}, "The settings do not fit the model: "),
        (
            {"train_file": unlabelled},
            "rows without an answer: 1 of 1 (1 open_ended; the first: '0'). A video-language model learns",
        ),
    ):
        with pytest.raises((SystemExit, ValueError)) as raised:
            train_vlm.main([write_config(**overrides)])
        sentence = str(raised.value) + capsys.readouterr().err
        assert said in sentence and "loaded: The settings" not in sentence


def test_an_adapter_whose_base_has_moved_takes_another(start, small_data, write_config, tmp_path, capsys):
    model, _ = load_video_language_model(str(shutil.copytree(start, tmp_path / "base")))
    adapter, moved = str(tmp_path / "adapter"), str(tmp_path / "moved")
    add_lora(model, 2).save_pretrained(adapter)  # as another tool's: without our settings
    shutil.move(tmp_path / "base", moved)
    VideoLanguageSettings(frames_per_clip=3, max_new_tokens=2).save_pretrained(tmp_path / "settings")
    settings = str(tmp_path / "settings" / "siamese_reasoning.json")
    video, rows = str(small_data / "v0.mp4"), str(small_data / "rows.jsonl")
    for command in (
        ["ask", video, "what ?", "--model", adapter],
        ["evaluate", adapter, rows, "--videos", str(small_data), "--output_dir", str(tmp_path / "evaluated")],
        ["merge", adapter, str(tmp_path / "merged")],
    ):
        assert siasamrea_command.main(command) != 0
        assert "base model of the adapter" in (said := capsys.readouterr().err) and "--base_model" in said
        assert siasamrea_command.main([*command, "--base_model", moved, "--settings", settings]) == 0
    assert load_video_language_model(tmp_path / "merged")[1].settings.frames_per_clip == 3
    with pytest.raises(ValueError, match="is no adapter"):
        load_video_language_model(start, base_model=moved)
    Path(adapter, "adapter_config.json").write_text('{"base_model_name_or_path": null, "peft_type": "LORA"}')
    with pytest.raises(ValueError, match="names the base model None"):
        load_video_language_model(adapter)


def test_a_checkpoint_that_needs_a_package_that_is_missing_is_a_sentence(start, tmp_path):
    shutil.copytree(start, tmp_path / "quantized")
    config = json.loads((tmp_path / "quantized" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "quantized" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quantized cannot be loaded: .*bitsandbytes"):
        load_video_language_model(tmp_path / "quantized")


def test_a_run_that_goes_on_ends_with_the_same_adapter(write_config, tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 2, "do_predict": False, "learning_rate": 1e-2}
    train_vlm.main([write_config(max_steps=4, output_dir=str(tmp_path / "straight"), **saved)])
    shutil.copytree(tmp_path / "straight" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    train_vlm.main([write_config(max_steps=4, output_dir=str(tmp_path / "resumed"), **saved)])
    weights = [load_file(tmp_path / run / "adapter_model.safetensors") for run in ("straight", "resumed")]
    assert any(value.any() for name, value in weights[0].items() if "lora_B" in name)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_broken_videos_are_left_out_by_the_list_of_a_run_and_an_example_is_shown(
    write_config, small_data, tmp_path, capsys
):
    train_vlm.main([write_config(max_steps=8, do_predict=False)])
    skipped = tmp_path / "run" / "skipped_videos.jsonl"
    lines = [json.loads(line) for line in skipped.read_text().splitlines()]
    assert lines and all("v2.mp4" in line["video"] and line["error"] for line in lines)
    again = {"skip_list": str(skipped), "output_dir": str(tmp_path / "again"), "show_example": True}
    train_vlm.main([write_config(eval_offsets=2, **again)])
    assert not (tmp_path / "again" / "skipped_videos.jsonl").exists()
    assert (tmp_path / "again" / "example_1.png").is_file() and "Q: what colour ?" in capsys.readouterr().out
    first = json.loads((tmp_path / "again" / "predictions.jsonl").read_text().splitlines()[0])
    assert len(first["answers"]) == 2 and "shuffled_answer" in first


@pytest.mark.parametrize("what", ["model", "adapter"])
def test_the_commands_ask_and_evaluate_take_both_kinds(write_config, small_data, start, tmp_path, capsys, what):
    checkpoint = start
    if what == "adapter":
        train_vlm.main([write_config(do_predict=False)])
        checkpoint = tmp_path / "run"
    capsys.readouterr()
    asked = ["ask", str(small_data / "v0.mp4"), "what ?", "--candidates", "cat", "dog", "--json", "--top_k", "2"]
    assert siasamrea_command.main([*asked, "--model", str(checkpoint)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    answers = json.loads(line)["answers"]
    assert {answer["answer"] for answer in answers} == {"cat", "dog"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1.0)
    rows = ["--test_file", str(small_data / "rows.jsonl"), "--video_folder", str(small_data), "--use_cpu"]
    output = ["--output_dir", str(tmp_path / "evaluation"), "--report_to", "none"]
    method = ["--method", '{"max_new_tokens": 2, "frames_per_clip": 4}']
    assert siasamrea_command.main(["evaluate", str(checkpoint), *rows, *output, *method]) == 0
    scores = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["test"]["scores"]
    assert scores["questions"] == 20 and "multiple_choice_accuracy_standard_error" in scores


@pytest.mark.parametrize("name", ["qwen3_vl_2b", "smolvlm2_2b", "llava_onevision_0_5b"])
def test_the_packaged_configurations_are_read(name, tmp_path):
    arguments, data, training = train_vlm.parse_arguments([name, "--output_dir", str(tmp_path), "--bf16", "false"])
    settings = VideoLanguageSettings(**arguments.method)
    assert settings.num_clips == 4 and settings.alpha == 1.0 and arguments.lora_rank == 16
    assert data.train_file and training.do_train
