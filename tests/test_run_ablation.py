"""The ablation script: what is run, what is not run twice, and its statistics worked by hand."""

import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(example, request):
    with pytest.MonkeyPatch.context() as patch:
        from pathlib import Path

        patch.syspath_prepend(Path(__file__).resolve().parents[1] / "examples")
        yield example("run_ablation")


def result(variant: str, seed: int, correct: str) -> dict:
    share = correct.count("1") / len(correct)
    scores = {
        "open_ended_accuracy": share,
        "multiple_choice_accuracy/action": share,
        "multiple_choice_accuracy/transition": share,
        "count_accuracy": share,
        "count_mse": 1 - share,
    }
    history = [{"loss": 1.0, "soft_label_accuracy/open_ended": 0.75, "anchor_accuracy/open_ended": 0.5}]
    return {
        "variant": variant,
        "seed": seed,
        "dataset": {"generator_version": 1, "annotations_sha256": "0" * 64},
        "baselines": {"majority": scores},
        "validation": scores,
        "test": scores,
        "correct": correct,
        "train_seconds": 60.0,
        "flops_per_question": 2e9,
        "history": history,
    }


CONFIG = {
    "sample_data": {"train_videos": 4, "validation_videos": 1, "test_videos": 2},
    "base": {"model_config": {"alpha": 1.0}},
    "variants": {"baseline": {"model_config": {"alpha": 0}}, "ours": {}},
    "studies": {"table1": {"title": "Table 1", "seeds": 2, "variants": ["baseline", "ours"]}},
}


def test_a_finished_run_is_not_repeated(script, tmp_path, monkeypatch):
    ran = []

    def run_one(config, variant, seed, work, threads):
        ran.append((variant, seed))
        return result(variant, seed, "10")

    monkeypatch.setattr(script, "run_one", run_one)
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(result("ours", 0, "11")) + "\n")
    for _ in range(2):
        script.run_missing(CONFIG, ["table1"], results, tmp_path / "work", jobs=1, threads=1)
    assert ran == [("baseline", 0), ("baseline", 1), ("ours", 1)]
    assert set(script.read_results(results)) == {(name, seed) for name in ("baseline", "ours") for seed in (0, 1)}


def test_paired_differences(script):
    ours = [result("ours", seed, "1" * 90 + "0" * 10) for seed in range(4)]
    theirs = [result("baseline", seed, "1" * 60 + "0" * 40) for seed in range(4)]
    difference, low, high, p = script.paired_difference(ours, theirs)
    # 30 of 100 questions differ, all for the better: the interval is the binomial's, 0.3 ± 1.96 * sqrt(0.21 / 100).
    assert difference == pytest.approx(0.3)
    assert low == pytest.approx(0.21, abs=0.02) and high == pytest.approx(0.39, abs=0.02)
    assert p <= 2e-4

    mixed = [result("mixed", seed, "10" * 50 if seed % 2 else "01" * 50) for seed in range(4)]
    difference, low, high, p = script.paired_difference(mixed, mixed[::-1])
    assert difference == 0 and low <= 0 <= high and p > 0.5


def test_intervals_over_seeds(script):
    mean, half = script.seed_interval([0.4, 0.4, 0.4])
    assert mean == pytest.approx(0.4) and half == pytest.approx(0)
    values = np.random.default_rng(0).normal(0.5, 0.1, 100).tolist()
    assert script.seed_interval(values)[1] == pytest.approx(1.96 * np.std(values) / 10, rel=0.1)


def test_the_report_is_made_from_the_results_alone(script, tmp_path):
    results = tmp_path / "results.jsonl"
    runs = [result("baseline", seed, "1100" * 5) for seed in (0, 1)] + [result("ours", 0, "1110" * 5)]
    results.write_text("".join(json.dumps(run) + "\n" for run in runs))
    report = script.write_report(CONFIG, results)
    assert "| baseline | 2 | 0.500 ± 0.000" in report and "| ours | 1 | 0.750 ± 0.000" in report
    assert "+0.250 [" in report and "2.00" in report
    assert "| ours | open_ended | 0.750 | 0.500 |" in report
    assert (tmp_path / "report.md").read_text() == report
    assert (tmp_path / "table1.png").stat().st_size > 1000 and (tmp_path / "table1.svg").exists()


def test_variants_of_the_shipped_configuration_exist_and_override_what_is_there(script):
    config = json.loads((script.SCRIPT.parent / "configs" / "ablation.json").read_text())
    for study in config["studies"].values():
        assert set(study["variants"]) <= set(config["variants"])
    for override in config["variants"].values():
        assert set(override) <= {"model_config", "video_processor"}


def test_flops_count_forward_of_all_clips_and_backward_of_the_anchor(script, tiny_config):
    from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering

    def flops(**fields):
        model = SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=3, freeze_batch_norm=False, **fields))
        return script.training_flops(model, 2, 64)

    one, siamese = flops(alpha=0), flops(num_clips=3)
    assert one < siamese < 2 * one
    assert flops(alpha=0, supervised_clips="all", num_clips=3) == pytest.approx(3 * one, rel=0.01)
