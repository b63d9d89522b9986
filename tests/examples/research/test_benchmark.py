"""The speed script at tiny sizes: its rows are ratios within turns, and a busy machine gets no report."""

import os
import subprocess
import sys
import time

import pytest
import torch


pytestmark = pytest.mark.research


@pytest.fixture
def benchmark(example, tiny_config, monkeypatch):
    """The script with a tiny model."""
    script = example("benchmark")

    def tiny(fast=True, **fields):
        torch.manual_seed(0)
        sizes = {"tasks": ["open_ended", "multiple_choice"], "num_labels": 1000}
        model = script.SiaSamReaForVideoQuestionAnswering(tiny_config(**sizes, **fields))
        if fast:
            script.speed_up_on_cpu(model)
        return model

    monkeypatch.setattr(script, "resnet50_bert_base", tiny)
    return script


def test_ratios_are_taken_within_a_turn(benchmark, monkeypatch):
    seconds = iter([1.0, 2.0, 2.0, 6.0, 4.0, 4.0])
    monkeypatch.setattr(benchmark, "seconds_of", lambda work: next(seconds))
    (row,) = benchmark.compare(3, "work", lambda: None, {"other": lambda: None})
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["work", "2.000 (1.000–4.000) s", "other", "4.000 (2.000–6.000) s", "2.00 (1.00–3.00)"]


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        ("inference", {"sizes": (64,)}),
        ("fast_paths", {"sizes": (64,)}),
        ("memory", {"sizes": (64,)}),
        ("siamese", {"size": 64, "numbers": (2, 3)}),
        ("reading", {"shapes": ((12, 64, 48),), "long": (2, 3, 64, 48)}),
        ("growth", {"rows": 200, "train": 100, "test": 100}),
        ("together", {"steps": 2, "train_videos": 4}),
    ],
)
def test_each_part_has_its_rows(benchmark, part, arguments, monkeypatch):
    monkeypatch.setattr(benchmark, "read_torchcodec", lambda *arguments: None)  # it may not be installed
    monkeypatch.setattr(benchmark, "run_model", lambda *arguments: 1.0)  # of full size, in new processes
    rows = benchmark.PARTS[part](1, **arguments)
    numbers = {"inference": 5, "fast_paths": 1, "memory": 1, "siamese": 2, "reading": 14, "growth": 4, "together": 1}
    assert len(rows) == numbers[part]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a load average only")
def test_a_busy_machine_gets_no_report(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "MOST_BY_OTHERS", 0.1 / os.cpu_count())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            with pytest.raises(SystemExit, match="cores meanwhile"), benchmark.quiet_machine("meanwhile"):
                time.sleep(1)
        finally:
            other.kill()
