"""The ablation script: what is run, what is not run twice, and its statistics worked by hand."""

import json

import numpy as np
import pytest

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.commands import siasamrea_command


pytestmark = pytest.mark.research


@pytest.fixture(scope="module")
def script(example):
    return example("run_ablation")


def result(variant: str, seed: int, correct: str) -> dict:
    late = {"soft_label_accuracy": 0.75, "anchor_accuracy": 0.5, "soft_label_entropy": 1.0}
    late |= {"clip_agreement": 0.9, "affinity_deviation": 0.1}
    return {
        "variant": variant,
        "seed": seed,
        "data": "00000000",
        "start": "11111111",
        "validation": 0.5,
        "count_mse": 0.25,
        "steps": 10,
        "train_seconds": 60.0,
        "test_seconds": 5.0,
        "flops_per_question": 2e9,
        "correct": dict.fromkeys(("what", "action", "transition", "count"), correct),
        "late": {"open_ended": late},
    }


DATA = ("00000000", {"generator_version": 1, "parameters": {}}, {"majority": {}})


CONFIG = {
    "variants": {"baseline": {"model_config": {"alpha": 0}}, "ours": {}},
    "studies": {"table1": {"title": "Table 1", "seeds": 2, "figure": True, "variants": ["baseline", "ours"]}},
    "claims": [["ours", "baseline"]],
}


@pytest.fixture
def runs(script, monkeypatch):
    """Notes what is run instead of running it; the baseline of seed 1 fails the first time."""
    ran = []

    def run_one(config, variant, seed, start, work, threads):
        ran.append((variant, seed))
        if ran.count(("baseline", 1)) == 1 and (variant, seed) == ("baseline", 1):
            raise RuntimeError("A run failed; its log is there.")
        return result(variant, seed, "10") | {"dataset": DATA}

    monkeypatch.setattr(script, "run_one", run_one)
    monkeypatch.setattr(script, "prepare", lambda *arguments: None)
    monkeypatch.setattr(script, "note_data", lambda *arguments: None)
    return ran


def test_a_finished_run_is_not_repeated_and_a_failed_one_loses_no_other(script, tmp_path, runs):
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(result("ours", 0, "11")) + "\n")
    arguments = (CONFIG, ["table1"], results, tmp_path / "work", 1, 1)
    with pytest.raises(RuntimeError, match="1 of 3 runs failed: A run failed; its log is there."):
        script.run_missing(*arguments)
    assert runs == [("baseline", 0), ("baseline", 1), ("ours", 1)]
    assert set(script.read_results(results)) == {("baseline", 0), ("ours", 0), ("ours", 1)}
    for _ in range(2):
        script.run_missing(*arguments)
    assert runs[3:] == [("baseline", 1)]


def test_a_run_starts_from_the_common_checkpoint_and_differs_by_its_override(script, tmp_path, monkeypatch):
    """Real runs of a step or two, in this process: the start, a variant, and one that evaluates it."""

    def run_script(settings, folder, threads):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings | {"output_dir": str(folder)}))
        assert siasamrea_command.main(["train", str(folder / "settings.json")]) in (0, None)

    monkeypatch.setattr(script, "run_script", run_script)
    config = json.loads((script.SCRIPT.parent / "research" / "ablation.json").read_text())
    few = {"train_videos": 4, "validation_videos": 2, "test_videos": 2, "event_seconds": 0.6}
    config["data"] = {"other": {**few, "seed": 6, "answers_kept": 0.5}}
    config["start_data"] |= few
    for settings in (config["start"], config["base"]):
        settings |= {"max_steps": 1, "per_device_train_batch_size": 4, "dataloader_num_workers": 0, "logging_steps": 1}
    config["variants"] = {
        "more clips": {"evaluates": "one", "data": "other", "video_processor": {"num_eval_clips": 2}},
        "one": {"data": "other", "model_config": {"num_clips": 3}, "max_steps": 2},
    }
    config["studies"] = {"study": {"title": "Study", "seeds": 1, "variants": ["more clips", "one"]}}
    results = tmp_path / "results.jsonl"
    script.run_missing(config, ["study"], results, tmp_path / "work", jobs=1, threads=1)
    run = script.read_results(results)["one", 0]
    made = json.loads((tmp_path / "work" / "data" / "other" / "dataset.json").read_text())
    data = json.loads((tmp_path / "data.json").read_text())[run["data"]]
    assert data["parameters"] == made["parameters"] | {"answers_kept": 0.5}
    assert run["steps"] == 2 and not made["annotations_sha256"].startswith(run["data"])
    assert {kind: len(correct) for kind, correct in run["correct"].items()} == {
        "what": 4,
        "action": 1,
        "transition": 2,
        "count": 1,
    }
    settings = json.loads((tmp_path / "work" / "one" / "0" / "settings.json").read_text())
    assert settings["model_name_or_path"] == str(tmp_path / "work" / "start")
    assert settings["model_config"]["num_clips"] == 3 and settings["model_config"]["alpha"] == 1
    evaluated = script.read_results(results)["more clips", 0]
    assert evaluated["train_seconds"] == run["train_seconds"] and run["late"] and not evaluated["late"]


def test_a_lost_checkpoint_is_trained_anew_without_a_second_line(script, tmp_path, runs):
    config = {
        "variants": {"ours": {}, "ours, more clips": {"evaluates": "ours"}},
        "studies": {"inference": {"seeds": 2, "variants": ["ours, more clips"]}},
    }
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(result("ours", 0, "11")) + "\n")
    (tmp_path / "work" / "ours" / "1").mkdir(parents=True)
    (tmp_path / "work" / "ours" / "1" / "metrics.json").touch()
    script.run_missing(config, ["inference"], results, tmp_path / "work", 1, 1)
    assert runs == [("ours", 0), ("ours, more clips", 0), ("ours, more clips", 1)]
    assert len(results.read_text().splitlines()) == 3


def test_paired_differences(script):
    ours = [{"correct": {"what": "1" * 90 + "0" * 10}}] * 4
    theirs = [{"correct": {"what": "1" * 60 + "0" * 40}}] * 4
    difference, low, high, p = script.paired_difference(ours, theirs)
    # 30 of 100 questions differ, all for the better: the interval is the binomial's, 0.3 ± 1.96 * sqrt(0.21 / 100).
    assert difference == pytest.approx(0.3)
    assert low == pytest.approx(0.21, abs=0.02) and high == pytest.approx(0.39, abs=0.02)
    assert p <= 2e-4

    mixed = [{"correct": {"what": "10" * 50 if seed % 2 else "01" * 50}} for seed in range(4)]
    difference, low, high, p = script.paired_difference(mixed, mixed[::-1])
    assert difference == 0 and low <= 0 <= high and p > 0.5


def test_kinds_of_questions_count_alike_however_many_there_are(script):
    ours = [{"correct": {"what": "1" * 90, "count": "0" * 10}}] * 2
    theirs = [{"correct": {"what": "0" * 90, "count": "0" * 10}}] * 2
    assert script.paired_difference(ours, theirs)[0] == pytest.approx(0.5)


def test_intervals_over_seeds(script):
    mean, half = script.seed_interval([0.4, 0.4, 0.4])
    assert mean == pytest.approx(0.4) and half == pytest.approx(0)
    values = np.random.default_rng(0).normal(0.5, 0.1, 100).tolist()
    assert script.seed_interval(values)[1] == pytest.approx(1.96 * np.std(values) / 10, rel=0.1)


def test_the_report_is_made_from_the_results_alone(script, tmp_path):
    results = tmp_path / "results.jsonl"
    runs = [result("baseline", seed, "1100" * 5) for seed in (0, 1)] + [result("ours", 0, "1110" * 5)]
    results.write_text("".join(json.dumps(run) + "\n" for run in runs))
    script.note_data(tmp_path / "data.json", DATA[0], DATA[1], {})
    report = script.write_report(CONFIG, results)
    assert "| baseline | 00000000 | 2 | 0.500 ± 0.000" in report and "| ours | 00000000 | 1 | 0.750 ± 0.000" in report
    assert "+0.250 [" in report and "2.00" in report
    assert "| ours minus baseline | 1 | +0.250 [" in report
    assert "| ours | open_ended | 0.750 | 0.500 |" in report
    assert (tmp_path / "report.md").read_text() == report
    assert (tmp_path / "table1.png").stat().st_size > 1000
    results.write_text(json.dumps(runs[0]) + "\n")  # a study that lacks a variant is left out
    assert "## Table 1" not in script.write_report(CONFIG, results)


def test_variants_of_the_shipped_configuration_exist_and_override_what_is_there(script):
    config = json.loads((script.SCRIPT.parent / "research" / "ablation.json").read_text())
    for study in config["studies"].values():
        assert set(study["variants"]) <= set(config["variants"])
    for pair in config["claims"]:
        assert set(pair) <= set(config["variants"])
    for override in config["variants"].values():
        assert set(override) <= {"data", "evaluates", *config["base"]}
        assert override.get("evaluates", "baseline") in config["variants"]
        assert override.get("data", "visible") in config["data"]


def test_flops_count_forward_of_all_clips_and_backward_of_the_anchor(script, tiny_config):
    def flops(**fields):
        model = SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=3, freeze_batch_norm=False, **fields))
        return script.training_flops(model, 2, 64)

    one, siamese = flops(alpha=0), flops(num_clips=3)
    assert one < siamese < 2 * one
    assert flops(alpha=0, supervised_clips="all", num_clips=3) == pytest.approx(3 * one, rel=0.01)
