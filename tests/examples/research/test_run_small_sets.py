"""The recipe on small sets: which rows a set has, and its line of the table."""

import json

import pytest

from modeling_siasamrea.data.tables import read_jsonl


pytestmark = pytest.mark.research


def test_a_set_has_two_kinds_of_question_and_a_line_with_each_seed(example, tmp_path, monkeypatch, capsys):
    script = example("run_small_sets")
    row = {"video": "a.avi", "question": "what is it ?", "answer": "a walk", "source": "weizmann", "group": "daria"}
    rows = [
        {**row, "question_type": kind, "split": split}
        for kind in ("weizmann_action", "weizmann_motion", "weizmann_choice", "ut_action")
        for split in ("train", "test")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = []

    def train(name, videos, seed, encoders, work):
        trained.append(
            (name, videos, [len(list(read_jsonl(work / name / f"{split}.jsonl"))) for split in script.SPLITS])
        )
        baselines = {"majority": {"accuracy": 0.25}, "question only": {"accuracy": 0.3}}
        return {"test": {"scores": {"accuracy": 0.5 + seed / 10, "questions": 2}, "baselines": baselines}}

    monkeypatch.setattr(script, "train", train)
    monkeypatch.setattr(script, "KINDS", {"weizmann": script.KINDS["weizmann"]})
    work = tmp_path / "work"
    monkeypatch.setattr("sys.argv", ["run_small_sets.py", "--data", str(tmp_path), "--work", str(work)])
    script.main()
    assert trained == [("weizmann", tmp_path, [2, 0, 2])] * 3
    assert set(next(read_jsonl(work / "weizmann/test.jsonl"))) == {"video", "question", "answer", "question_type"}
    assert "| weizmann | 2 | 0.500, 0.600, 0.700 | 0.600 | 0.250 | 0.300 |" in capsys.readouterr().out
