"""The ways PyTorch can run the model: other attention, other precision, checkpointing, and compiled."""

import pytest
import torch

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.loss_siasamrea import siamese_loss


@pytest.fixture
def model(tiny_config) -> SiaSamReaForVideoQuestionAnswering:
    torch.manual_seed(0)
    return SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=5)).eval()


def batch(clips: int) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values_videos": torch.randn(2, clips, 2, 3, 64, 64, generator=generator),
        "input_ids": torch.randint(1, 200, (2, 6), generator=generator),
        "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2]),
    }


def gradients(model, inputs) -> dict[str, torch.Tensor]:
    model.train().zero_grad()
    outputs = model(**inputs, labels=torch.tensor([1, 3]))
    (outputs.loss + siamese_loss(outputs.logits, outputs.soft_labels, "open_ended").mean()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_sdpa_and_eager_attention_agree_and_the_convolutional_encoder_does_not_object(model, tmp_path):
    model.save_pretrained(tmp_path)
    answers = {}
    for attention in ("sdpa", "eager"):
        other = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path, attn_implementation=attention)
        assert other.model.text_model.config._attn_implementation == attention
        answers[attention] = other(**batch(1)).logits
    torch.testing.assert_close(answers["sdpa"], answers["eager"], atol=1e-5, rtol=1e-5)


def test_attentions_and_hidden_states_are_those_of_the_text_model(model):
    model.set_attn_implementation("eager")
    outputs = model(**batch(1), output_attentions=True, output_hidden_states=True)
    layers, tokens = model.config.text_config.num_hidden_layers, outputs.hidden_states[0].shape[1]
    assert len(outputs.attentions) == layers and len(outputs.hidden_states) == layers + 1
    torch.testing.assert_close(outputs.attentions[0].sum(dim=-1)[0], torch.ones(2, tokens))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(model, use_reentrant):
    plain = gradients(model, batch(3))
    # Transformers gives the method another name from 5.24 on.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})
    # Reentrant checkpointing needs an input with a gradient.
    model.enable_input_require_grads()
    checkpointed = gradients(model, batch(3))
    assert plain.keys() == checkpointed.keys() and any("siamese_reasoning" in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_bf16_autocast_trains_every_parameter_and_keeps_the_soft_label_in_float32(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model.train()(**batch(3), labels=torch.tensor([1, 3]))
        loss = outputs.loss + siamese_loss(outputs.logits, outputs.soft_labels, "open_ended").mean()
    loss.backward()
    assert outputs.soft_labels.dtype == torch.float32
    torch.testing.assert_close(outputs.soft_labels.sum(dim=1), torch.ones(2))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "token_type" not in name:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_bf16_weights_answer_as_float32_weights_do(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path, dtype=torch.bfloat16)
    inputs = batch(1)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].bfloat16()
    logits = half(**inputs).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(**batch(1)).logits, atol=3e-2, rtol=5e-2)


def test_the_compiled_inference_path_gives_the_same_answers(model):
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch(1)).logits, model(**batch(1)).logits, atol=1e-4, rtol=1e-4)
