"""The comparison on real footage: what a fold holds, what is run and not run twice, and its statistics by hand."""

import json
from argparse import Namespace

import numpy as np
import pytest


pytestmark = pytest.mark.research
KINDS = {"official": "films", "action": "people"}


@pytest.fixture(scope="module")
def script(example):
    return example("run_real_footage")


@pytest.fixture
def rows():
    return [
        {
            "video": f"{source}{group}.mp4",
            "question": "what is it ?",
            "answer": f"answer {number}",
            "task": "open_ended",
            "question_type": kind,
            "source": source,
            "group": str(group),
        }
        for kind, source in KINDS.items()
        for group in range(12)
        for number in range(1 + group % 3)
    ]


def test_each_question_is_tested_once_and_a_group_never_stands_on_two_sides(script, rows):
    folds = [script.split_rows(rows, fold, 3, seed=0) for fold in range(3)]
    assert sorted(map(str, rows)) == sorted(str(row) for split in folds for row in split["test"])
    for split in folds:
        assert all(split.values()) and sum(map(len, split.values())) == len(rows)
        groups = [{(row["source"], row["group"]) for row in split[name]} for name in split]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 24
        for source in KINDS.values():
            assert 0.2 < np.mean([row in split["test"] for row in rows if row["source"] == source]) < 0.42


def test_fewer_answers_are_among_more_and_other_rows_keep_theirs(script, rows, tmp_path):
    split = script.split_rows(rows, 0, 3, seed=0)
    kept = []
    for share in (1.0, 0.5, 0.25):
        script.write_rows(tmp_path, split, tmp_path / "data", share, blind=False)
        written = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        assert [row["question"] for row in written] == [row["question"] for row in split["train"]]
        kept.append({number for number, row in enumerate(written) if "answer" in row})
        assert len(kept[-1]) == round(share * len(written))
        test = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
        assert [row["answer"] for row in test] == [row["answer"] for row in split["test"]]
        assert test[0]["video"] == str(tmp_path / "data" / split["test"][0]["video"]) and "group" not in test[0]
    assert kept[2] < kept[1] < kept[0]


def result(variant: str, fold: int, official: str, action: str, pairs: str = "0000") -> dict:
    kinds = {
        "official": {"groups": [0, 0, 1, 1], "correct": official, "differing_pairs": pairs},
        "action": {"groups": [2, 3, 4, 5], "correct": action, "differing_pairs": "0000"},
    }
    of_run = {"validation": 0.5, "calibration_error": 0.1, "accuracy_at_50_coverage": 0.8, "train_seconds": 10.0}
    return {"variant": variant, "fold": fold, "seed": 0, "kinds": kinds} | of_run


CONFIG = {
    "protocol": "Fixed before.",
    "sources": list(KINDS.values()),
    "folds": 3,
    "split_seed": 0,
    "seeds": 1,
    "primary": ["official", "action"],
    "base": {"eval_offsets": 3, "model_config": {"alpha": 1.0}, "vision_model": "eye", "text_model": "bert"},
    "variants": {"baseline": {"model_config": {"num_clips": 1}}, "ours": {"answers_kept": 0.5}},
    "studies": {"table1": {"title": "Table 1", "variants": ["baseline", "ours"]}},
    "claims": [["ours", "baseline"]],
}


def test_statistics_by_hand(script):
    comparison = script.Comparison(CONFIG)
    theirs = {(0, 0): result("baseline", 0, "1100", "1000", pairs="0300")}
    ours = {(0, 0): result("ours", 0, "1111", "1110")}
    assert comparison.drawn(theirs, "correct")[0] == (2 / 4 + 1 / 4) / 2
    # The two groups of the official questions are all right and all wrong: drawing both twice gives 0, 1/2 or 1.
    official = script.Comparison(CONFIG | {"primary": ["official"]})
    values, counts = np.unique(official.drawn(theirs, "correct")[1], return_counts=True)
    assert values.tolist() == [0, 0.5, 1] and np.allclose(counts / counts.sum(), [0.25, 0.5, 0.25], atol=0.02)
    assert comparison.drawn(theirs, "differing_pairs")[0] == (3 / 3 / 4 + 0) / 2  # three pairs of three starts
    assert comparison.difference(ours, theirs, "correct").startswith("+0.500 [")
    assert comparison.difference(ours, ours, "correct") == "+0.000 [+0.000, +0.000] | 1"
    # Only runs that both have are compared.
    assert comparison.difference(ours | {(1, 0): result("ours", 1, "0000", "0000")}, theirs, "correct").startswith(
        "+0.500"
    )


def test_runs_are_made_once_with_their_overrides_and_reported(script, rows, tmp_path, monkeypatch):
    ran = []

    def run_script(settings, folder, threads):
        ran.append(settings)
        assert threads == 1
        test = [json.loads(line) for line in open(settings["test_file"], encoding="utf-8")]
        answers = ["a", "b", "a"]
        lines = [{"correct": number % 2 == 0, "answers": answers} for number, _ in enumerate(test)]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        scores = {"accuracy": 0.5, "open_ended_expected_calibration_error": 0.1}
        scores |= {"open_ended_accuracy_at_50_coverage": 0.8, "train_runtime": 9.0}
        report = {split: {"scores": scores} for split in ("train", "validation", "test")}
        (folder / "metrics.json").write_text(json.dumps(report))

    monkeypatch.setattr(script, "run_script", run_script)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"primary": list(KINDS)}))
    others = [row | {"source": "another"} for row in rows[:5]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in others + rows))
    command = [str(tmp_path / "config.json"), "--data", str(tmp_path), "--work", str(tmp_path / "work"), "--jobs", "1"]
    command += ["--encoders", str(tmp_path / "encoders"), "--results", str(tmp_path / "results" / "real.jsonl")]
    script.main(command)
    assert len(ran) == 6
    assert ran[0]["model_config"] == {"alpha": 1.0, "num_clips": 1}
    assert ran[0]["vision_model"] == str(tmp_path / "encoders" / "eye") and "answers_kept" not in ran[3]
    line = json.loads((tmp_path / "results" / "real.jsonl").read_text().splitlines()[0])
    assert set(line["kinds"]["action"]["differing_pairs"]) == {"2"}
    report = (tmp_path / "results" / "real.md").read_text()
    tested = [json.loads(line) for line in (tmp_path / "results" / "real.jsonl").read_text().splitlines()]
    assert sum(len(kind["groups"]) for run in tested for kind in run["kinds"].values()) == 2 * len(rows)
    assert "| ours | 3 | " in report and "| ours minus baseline | 3 | +0.000 " in report
    assert (tmp_path / "results" / "real.png").exists()
    script.main(command)
    assert len(ran) == 6


def test_a_variant_goes_on_from_the_trained_model_of_another(script, rows, tmp_path, monkeypatch):
    ran = []

    def run_script(settings, folder, threads):
        ran.append((folder, settings))
        (folder / "metrics.json").write_text("{}")

    monkeypatch.setattr(script, "run_script", run_script)
    variants = CONFIG["variants"] | {"later": {"starts_from": "ours", "max_steps": 3}}
    folders = Namespace(data=tmp_path, encoders=tmp_path / "encoders", work=tmp_path, threads=1)
    split = script.split_rows(rows, 0, CONFIG["folds"], CONFIG["split_seed"])
    for _ in range(2):  # the second time the start is there
        script.train_variant(CONFIG | {"variants": variants}, "later", split, 7, folders, tmp_path / "run")
    start = tmp_path / "run" / "start"
    assert [folder for folder, _ in ran] == [start, tmp_path / "run", tmp_path / "run"]
    (_, first), (_, then), _ = ran
    assert first["vision_model"] == str(tmp_path / "encoders" / "eye") and "model_name_or_path" not in first
    assert then["model_name_or_path"] == str(start) and then["vision_model"] is then["text_model"] is None
    assert then["max_steps"] == 3 and then["seed"] == 7 and "starts_from" not in then
    assert then["train_file"] == str(tmp_path / "run" / "train.jsonl")
