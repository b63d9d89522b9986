"""Pretraining from end to end, and fine-tuning from its checkpoint."""

import json
import sys
from pathlib import Path

import pytest

from modeling_siasamrea import SiaSamReaConfig
from modeling_siasamrea.commands import train


CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"


@pytest.fixture
def run(example, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(CONFIGS.parent), *sys.path])

    def run(pictures: int, **changes) -> dict:
        data = tmp_path / "captions"
        overrides = {
            "train_file": data / "train.jsonl",
            "validation_file": data / "validation.jsonl",
            "folder": data,
            "output_dir": tmp_path / "pretrained",
            "sample_captions": pictures,
            "dataloader_num_workers": 0,
            "disable_tqdm": True,
        }
        options = [text for key, value in (overrides | changes).items() for text in (f"--{key}", str(value))]
        return example("run_pretraining").main([str(CONFIGS / "pretraining_sample.json"), *options])

    return run


def test_a_short_run_reports_and_starts_fine_tuning(run, small_data, tmp_path):
    report = run(40, max_steps=2, per_device_train_batch_size=8)
    assert {"eval_masked_words_accuracy", "eval_unigram_accuracy", "eval_matching_accuracy"} <= report.keys()

    options = {
        "model_name_or_path": tmp_path / "pretrained",
        "train_file": small_data / "rows.jsonl",
        "test_file": small_data / "rows.jsonl",
        "video_folder": small_data,
        "output_dir": tmp_path / "tuned",
        "video_processor": json.dumps({"frames_per_clip": 2}),
        "model_config": json.dumps({"num_clips": 2}),
        "do_train": True,
        "do_predict": True,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    command = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    report = train.main(command)
    assert report["test"]["scores"]["questions"] == 20
    config = SiaSamReaConfig.from_pretrained(tmp_path / "tuned")
    assert set(config.tasks) == {"open_ended", "multiple_choice", "count"}


def test_bad_input_gets_a_sentence(run, tmp_path, capsys):
    for wrong in ({"model_config": "[]"}, {"mask_probability": 2}, {"max_text_length": 0}, {"lernin": 1}):
        with pytest.raises(SystemExit, match="2"):
            run(4, **wrong)
        assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ValueError, match="alhpa"):
        run(4, model_config='{"alhpa": 0}')
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(4, output_dir=tmp_path / "file")
    with pytest.raises(ValueError, match="The checkpoint .*nowhere cannot be loaded"):
        run(4, model_name_or_path=tmp_path / "nowhere")


@pytest.mark.slow
def test_it_learns_to_match_and_to_see_masked_words(run):
    report = run(3000)
    assert report["eval_matching_accuracy"] > report["eval_matching_chance"] + 0.2
    assert report["eval_masked_words_accuracy"] > 2 * report["eval_unigram_accuracy"]
