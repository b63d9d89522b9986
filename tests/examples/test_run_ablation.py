"""The ablation script: what is run, what is not run twice, and its statistics worked by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from other_processes import lives, wait_for


@pytest.fixture(scope="module")
def script(example, request):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[2] / "examples")
        yield example("run_ablation")


def result(variant: str, seed: int, correct: str) -> dict:
    share = correct.count("1") / len(correct)
    scores = {
        "open_ended_accuracy": share,
        "multiple_choice_accuracy/action": share,
        "multiple_choice_accuracy/transition": share,
        "count_accuracy": share,
        "count_mse": 1 - share,
        "runtime": 5.0,
    }
    logged = {"soft_label_accuracy": 0.75, "anchor_accuracy": 0.5, "soft_label_entropy": 1.0}
    logged |= {"clip_agreement": 0.9, "affinity_deviation": 0.1}
    history = [
        {"loss": 1.0, "step": 5, "w1/0": 0.2, **{f"{name}/open_ended": value for name, value in logged.items()}}
    ]
    return {
        "variant": variant,
        "seed": seed,
        "dataset": {"generator_version": 1, "annotations_sha256": "0" * 64, "parameters": {}},
        "start": "1" * 64,
        "baselines": {"majority": scores},
        "validation": scores,
        "test": scores,
        "correct": {"what": correct},
        "steps": 10,
        "train_seconds": 60.0,
        "flops_per_question": 2e9,
        "history": history,
    }


CONFIG = {
    "variants": {"baseline": {"model_config": {"alpha": 0}}, "ours": {}},
    "studies": {"table1": {"title": "Table 1", "seeds": 2, "variants": ["baseline", "ours"]}},
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
        return result(variant, seed, "10")

    monkeypatch.setattr(script, "run_one", run_one)
    monkeypatch.setattr(script, "prepare", lambda *arguments: None)
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


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own signal")
def test_a_run_ends_with_the_script_that_started_it(script, tmp_path):
    (tmp_path / "sleeper.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'new')!r}).write_text(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(600)"
    )
    program = "import sys; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nimport run_ablation\n"
    program += "from concurrent.futures import ThreadPoolExecutor\nrun_ablation.SCRIPT = Path(sys.argv[2])\n"
    program += "ThreadPoolExecutor(1).submit(run_ablation.run_script, {}, Path(sys.argv[3]), 1).result()"
    arguments = [str(Path(script.__file__).parent), str(tmp_path / "sleeper.py"), str(tmp_path / "run")]
    with subprocess.Popen([sys.executable, "-c", program, *arguments]) as process:
        assert wait_for(lambda: (tmp_path / "pid").exists(), 60)
        process.kill()
    run = int((tmp_path / "pid").read_text())
    assert wait_for(lambda: not lives(run), 60)


def test_a_run_starts_from_the_common_checkpoint_and_differs_by_its_override(script, tmp_path):
    """The real processes: the checkpoint that all start from, then one run of a step."""
    config = json.loads((script.SCRIPT.parent / "configs" / "ablation.json").read_text())
    few = {"train_videos": 4, "validation_videos": 1, "test_videos": 2}
    config["data"] = {"first": {**few, "seed": 5}, "other": {**few, "seed": 6, "answers_kept": 0.5}}
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
    assert run["steps"] == 2 and run["dataset"]["parameters"]["seed"] == 6
    data = tmp_path / "work" / "data" / "other"
    made = json.loads((data / "dataset.json").read_text())
    assert run["dataset"]["parameters"] == made["parameters"] | {"answers_kept": 0.5}
    assert run["dataset"]["annotations_sha256"] != made["annotations_sha256"]
    assert {kind: len(correct) for kind, correct in run["correct"].items()} == {
        "what": 4,
        "action": 1,
        "transition": 2,
        "count": 1,
    }
    assert "w1/2" in run["history"][-1] and "w1/3" not in run["history"][-1]
    log = (tmp_path / "work" / "one" / "0" / "log.txt").read_text()
    assert f'"{tmp_path / "start"}"' in (tmp_path / "work" / "one" / "0" / "settings.json").read_text()
    assert "random weights" not in log and "Training: 8 of 15 rows have no answer" in log  # one is unknown
    evaluated = script.read_results(results)["more clips", 0]
    assert evaluated["history"] == run["history"] and evaluated["train_seconds"] == run["train_seconds"]
    assert evaluated["test"]["loss"] != run["test"]["loss"]


def test_a_share_of_the_answers_is_kept_and_a_larger_one_holds_a_smaller(script):
    rows = [{"question_id": str(number), "answer": number} for number in range(40)]
    kept = {}
    for share in (0.1, 0.25, 1.0):
        given = script.keep_answers(rows, share)
        assert [row["question_id"] for row in given] == [row["question_id"] for row in rows]
        kept[share] = {row["question_id"] for row in given if row.get("answer") == int(row["question_id"])}
        assert len(kept[share]) == sum("answer" in row for row in given) == share * 40
    assert kept[0.1] < kept[0.25] < kept[1.0]
    assert script.keep_answers(rows, 0.1) == script.keep_answers(rows, 0.1)


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
    report = script.write_report(CONFIG, results)
    assert "| baseline | 00000000 | 2 | 0.500 ± 0.000" in report and "| ours | 00000000 | 1 | 0.750 ± 0.000" in report
    assert "+0.250 [" in report and "2.00" in report
    assert "| ours minus baseline | 1 | +0.250 [" in report
    assert "| ours | open_ended | 0.750 | 0.500 |" in report
    assert (tmp_path / "report.md").read_text() == report
    assert (tmp_path / "table1.png").stat().st_size > 1000
    figure = (tmp_path / "table1.svg").read_bytes()
    script.write_report(CONFIG, results)
    assert (tmp_path / "table1.svg").read_bytes() == figure


def test_a_study_without_runs_of_some_variant_is_not_reported(script, tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(result("baseline", 0, "1100")) + "\n")
    assert "## Table 1" not in script.write_report(CONFIG, results)
    assert not (tmp_path / "table1.png").exists()


def test_variants_of_the_shipped_configuration_exist_and_override_what_is_there(script):
    config = json.loads((script.SCRIPT.parent / "configs" / "ablation.json").read_text())
    for study in config["studies"].values():
        assert set(study["variants"]) <= set(config["variants"])
    for pair in config["claims"]:
        assert set(pair) <= set(config["variants"])
    for override in config["variants"].values():
        assert set(override) <= {"data", "evaluates", *config["base"]}
        assert override.get("evaluates", "baseline") in config["variants"]
        assert override.get("data", "visible") in config["data"]


def test_flops_count_forward_of_all_clips_and_backward_of_the_anchor(script, tiny_config):
    from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering

    def flops(**fields):
        model = SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=3, freeze_batch_norm=False, **fields))
        return script.training_flops(model, 2, 64)

    one, siamese = flops(alpha=0), flops(num_clips=3)
    assert one < siamese < 2 * one
    assert flops(alpha=0, supervised_clips="all", num_clips=3) == pytest.approx(3 * one, rel=0.01)


def test_flops_of_wide_linear_layers_count(script, tiny_config):
    from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering

    text = {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 4}
    text |= {"intermediate_size": 384, "vocab_size": 200}
    model = SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=3, text_config=text, alpha=0))
    products = 6 * 384**2 * (10 + 1)  # six layers of 384 x 384 on ten words and the fewest visual tokens
    assert script.training_flops(model, 1, 64) > 3 * 2 * products
