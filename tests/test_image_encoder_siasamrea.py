"""Image encoders of timm, through Transformers, like any other."""

from pathlib import Path

import pytest
import torch
import transformers
from transformers import BertConfig, BertModel

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering


@pytest.fixture(scope="module", autouse=True)
def timm() -> None:
    """Takes a second to import, so it is not imported while tests are collected."""
    pytest.importorskip("timm")


@pytest.fixture
def text(tmp_path) -> Path:
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=50
    )
    BertModel(config).save_pretrained(tmp_path / "text")
    return tmp_path / "text"


def answer(model: SiaSamReaForVideoQuestionAnswering) -> torch.Tensor:
    frames = torch.linspace(-1, 1, 2 * 3 * 96 * 96).reshape(1, 1, 2, 3, 96, 96)
    with torch.no_grad():
        return model.eval()(pixel_values_videos=frames, input_ids=torch.tensor([[1, 2, 3]])).logits


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("TimmBackbone", {"backbone": "test_efficientnet"}),
        ("TimmBackbone", {"backbone": "test_vit"}),
        ("TimmWrapperModel", {"architecture": "test_efficientnet"}),
    ],
)
def test_a_folder_of_a_timm_model_is_an_image_encoder(name, fields, text, tmp_path):
    torch.manual_seed(0)
    config = getattr(transformers, name.removesuffix("Model") + "Config")(**fields)
    encoder = getattr(transformers, name)(config)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    encoder.save_pretrained(tmp_path / "vision")
    model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(
        str(tmp_path / "vision"), str(text), tasks=["open_ended"], num_labels=3, num_clips=2
    )
    used = model.model.image_encoder.encoder.state_dict()
    assert all(torch.equal(used[name], value) for name, value in encoder.state_dict().items())
    model.save_pretrained(tmp_path / "model")
    again = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(answer(again), answer(model))

    # Frozen batch norms stay as they are, the rest learns.
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    statistics = [norm.running_mean.clone() for norm in norms]
    batch = {"pixel_values_videos": torch.randn(2, 2, 2, 3, 64, 64), "input_ids": torch.tensor([[1, 2], [3, 4]])}
    model.train()(**batch, labels=torch.tensor([0, 2])).loss.backward()
    assert all(map(torch.equal, statistics, [norm.running_mean for norm in norms]))
    assert next(model.model.image_encoder.encoder.parameters()).grad.abs().sum() > 0


def test_patches_without_a_map_get_a_sentence(tiny_config):
    with pytest.raises(ValueError, match="'test_vit' is a model with patches.*\"timm_backbone\""):
        SiaSamReaForVideoQuestionAnswering(
            tiny_config(vision_config={"model_type": "timm_wrapper", "architecture": "test_vit"})
        )
