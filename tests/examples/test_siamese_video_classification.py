"""Siamese reasoning over the encoder classifiers of Transformers, by the losses of the small network."""

import json
import sys

import pytest
import torch
from transformers import (
    AutoModelForVideoClassification,
    PreTrainedConfig,
    TimesformerConfig,
    VideoMAEConfig,
    VideoMAEVideoProcessor,
    VivitConfig,
    VJEPA2Config,
)

from modeling_siasamrea import SiaSamReaConfig
from modeling_siasamrea.siamese_reasoning import SiameseReasoning, siamese_knowledge_generation


SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SHAPE |= {"image_size": 32, "num_frames": 4, "num_labels": 5, "hidden_dropout_prob": 0.0}
CONFIGS: dict[str, PreTrainedConfig] = {
    "videomae": VideoMAEConfig(patch_size=16, tubelet_size=2, **SHAPE),
    "timesformer": TimesformerConfig(patch_size=16, **SHAPE),
    "vivit": VivitConfig(tubelet_size=[2, 16, 16], **SHAPE),
    "vjepa2": VJEPA2Config(
        patch_size=16,
        crop_size=32,
        frames_per_clip=4,
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        pred_hidden_size=32,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        num_pooler_layers=1,
        num_labels=5,
    ),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_the_loss_is_equation_8_and_trains_the_anchor_and_the_weights_alone(family, example):
    script = example("siamese_video_classification")
    torch.manual_seed(0)
    model = AutoModelForVideoClassification.from_config(CONFIGS[family]).eval()
    reasoning = SiameseReasoning(SiaSamReaConfig(num_clips=3, alpha=0.6))
    clips, labels = torch.randn(2, 3, 4, 3, 32, 32, requires_grad=True), torch.tensor([1, 4])
    loss = script.siamese_step(model, reasoning, clips, labels)

    pairs = [script.score_clip(model, clip) for clip in clips.unbind(dim=1)]
    features, logits = (torch.stack(parts, dim=1) for parts in zip(*pairs))
    plain = model(**{model.main_input_name: clips[:, 1]}).logits
    torch.testing.assert_close(logits[:, 1], plain)
    torch.testing.assert_close(features @ model.classifier.weight.T + model.classifier.bias, logits)
    affinity = siamese_knowledge_generation(features)
    weights = 0.5 * affinity.mean(dim=1) + 0.5 / 3  # W1 and W2 start uniform
    soft_labels = (weights[..., None] * logits.softmax(dim=-1)).sum(dim=1)
    log_p = logits[:, 0].log_softmax(dim=-1)
    expected = -log_p[torch.arange(2), labels].mean() - 0.6 * (soft_labels * log_p).sum(dim=1).mean()
    torch.testing.assert_close(loss, expected)

    loss.backward()
    assert clips.grad[:, 0].abs().max() > 0 and clips.grad[:, 1:].abs().max() == 0
    assert reasoning.w1_logits.grad.abs().max() > 0


def test_the_script_trains_and_saves_a_classifier(tmp_path, write_video, example, monkeypatch, capsys):
    rows = []
    for number in range(4):
        write_video(tmp_path / f"v{number}.mp4", frames=12 + number)
        rows.append({"video": f"v{number}.mp4", "question": "which ?", "answer": "ab"[number % 2]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = tmp_path / "start"
    AutoModelForVideoClassification.from_config(CONFIGS["videomae"]).save_pretrained(start)
    VideoMAEVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(start)
    argv = ["x", str(start), "--rows", str(tmp_path / "rows.jsonl"), "--video_folder", str(tmp_path)]
    argv += ["--output", str(tmp_path / "out"), "--epochs", "2", "--num_clips", "3"]
    monkeypatch.setattr(sys, "argv", argv)
    example("siamese_video_classification").main()
    assert capsys.readouterr().out.count("loss") == 2
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "a", 1: "b"}
