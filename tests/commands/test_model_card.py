"""The card of a finished run."""

from modeling_siasamrea.commands.model_card import write_model_card
from modeling_siasamrea.training.trainer import SiaSamReaTrainingArguments


def test_a_score_stands_with_its_standard_error(tmp_path, tiny_config):
    scores = {
        "open_ended_accuracy": 0.41234,
        "open_ended_accuracy_standard_error": 0.0123,
        "open_ended_flip_rate": 0.2,
    }
    write_model_card(
        tmp_path / "README.md",
        config=tiny_config(),
        arguments=SiaSamReaTrainingArguments(output_dir=str(tmp_path), use_cpu=True),
        dataset="data",
        split="test",
        scores=scores,
        baselines={"majority": {"open_ended_accuracy": 0.1}},
        base_model=None,
    )
    card = (tmp_path / "README.md").read_text()
    assert "| open_ended_accuracy | 0.4123 ± 0.012 | 0.1 |\n| open_ended_flip_rate | 0.2 | – |\n" in card
