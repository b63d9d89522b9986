"""The card of a finished run."""

from huggingface_hub import ModelCard

from modeling_siasamrea import SiaSamReaTrainingArguments
from modeling_siasamrea.commands.arguments import DataArguments
from modeling_siasamrea.commands.model_card import write_model_card
from modeling_siasamrea.data.questions import load_video_questions


def test_a_card_states_scores_with_errors_and_baselines_rows_and_what_it_started_from(tmp_path, tiny_config):
    rows = load_video_questions([{"video": "v.mp4", "question": "what\n\x1b[1m | ?", "answer": "red"}] * 3)
    scores = {
        "accuracy": 0.5,
        "open_ended_accuracy": 0.41234,
        "open_ended_accuracy_standard_error": 0.0123,
        "count_mse": 2.5,
        "flip_rate": 0.2,
        "samples_per_second": 3,
    }
    write_model_card(
        tmp_path / "README.md",
        config=tiny_config(),
        arguments=SiaSamReaTrainingArguments(output_dir=str(tmp_path), use_cpu=True),
        data=DataArguments(train_file="a\nb.jsonl", test_file="rows|.jsonl"),
        rows={"train": rows * 2, "test": rows},
        unreadable={"test": 2},
        scores=scores,
        baselines={"majority": {"open_ended_accuracy": 0.1}},
        started_from=["microsoft/resnet-50", str(tmp_path)],
    )
    card = (tmp_path / "README.md").read_text()
    table = [" ".join(line.split()) for line in card.splitlines()]
    assert "| open-ended, accuracy | 0.412 ± 0.012 | 0.100 |" in table
    assert "| answers that change with the start | 0.200 | – |" in table
    assert "per_second" not in card and "{{" not in card and "\x1b" not in card
    assert "| train | a b.jsonl | 6 | 1 | 0 |" in card and "| test | rows\\|.jsonl | 3 | 1 | 2 |" in card
    assert f"Started from: microsoft/resnet-50, {tmp_path}" in card
    data = ModelCard(card).data
    assert data.license is None and data.base_model == ["microsoft/resnet-50"]
    results = {(result.metric_type, result.metric_value) for result in data.eval_results}
    assert results == {("accuracy", 0.5), ("accuracy", 0.41234), ("mse", 2.5)}
