"""A model that is made faster on a CPU gives the same numbers and gradients, and follows every change of weights."""

import copy
import pickle

import pytest
import torch
from transformers import pipeline

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, speed_up_on_cpu
from modeling_siasamrea.conversion.for_cpus import FoldedBatchNorm, FoldedConvolution


ENCODERS = {"resnet": {}, "mobilenet_v2": {"vision_config": {"model_type": "mobilenet_v2", "depth_multiplier": 0.1}}}


@pytest.fixture
def models(tiny_config, request) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaForVideoQuestionAnswering]:
    """The same model as it was built and made faster; its batch norms do something."""
    torch.manual_seed(0)
    plain = SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=5, **getattr(request, "param", {}))).eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.uniform_(0.5, 2)
    fast = copy.deepcopy(plain)
    speed_up_on_cpu(fast)
    return plain, fast


def features(model: SiaSamReaForVideoQuestionAnswering) -> torch.Tensor:
    frames = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return model.model.image_encoder(frames)


def assert_as_plain(fast, plain):
    expected = features(plain)
    assert (features(fast) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("models", ENCODERS.values(), ids=ENCODERS, indirect=True)
def test_numbers_and_gradients_stay(models):
    plain, fast = models
    norms = [module for module in fast.model.image_encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(type(norm) is FoldedBatchNorm for norm in norms)
    assert plain.state_dict().keys() == fast.state_dict().keys()
    assert_as_plain(fast, plain)
    for model in models:
        features(model.train()).square().mean().backward()
    trained = [name for name, p in plain.named_parameters() if p.grad is not None]
    assert any("convolution" in name for name in trained)
    for name in trained:
        expected, gradient = plain.get_parameter(name).grad, fast.get_parameter(name).grad
        assert (gradient - expected).abs().max() < 1e-4 * expected.abs().max() + 1e-9, name


def test_a_change_of_the_weights_is_never_missed(models):
    plain, fast = models
    for change in (
        lambda model: model.model.image_encoder.encoder.embedder.embedder.convolution.weight.data[0, 0, 0].mul_(-9),
        lambda model: model.model.image_encoder.encoder.embedder.embedder.normalization.running_var.mul_(3),
        lambda model: model.load_state_dict({n: v * 1.5 for n, v in model.state_dict().items()}),
    ):
        before = features(plain)
        for model in models:
            change(model)
        assert (features(plain) - before).abs().max() > 1e-2 * before.abs().max()
        assert_as_plain(fast, plain)


def test_copies_pickles_and_saved_folders_are_whole(models, tmp_path):
    plain, fast = models
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert_as_plain(again, plain)
        again.model.image_encoder.encoder.embedder.embedder.normalization.weight.data.mul_(5)
        assert_as_plain(fast, plain)  # the copy has parameters of its own
    fast.save_pretrained(tmp_path)
    loaded = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path)
    assert not any(isinstance(module, FoldedConvolution) for module in loaded.modules())
    torch.testing.assert_close(features(loaded), features(plain), atol=0, rtol=0)


def test_batch_norms_that_train_are_left_alone(tiny_config):
    model = SiaSamReaForVideoQuestionAnswering(tiny_config(freeze_batch_norm=False))
    speed_up_on_cpu(model)
    assert not any(isinstance(module, FoldedBatchNorm) for module in model.modules())


def test_lora_on_convolutions_comes_before_and_is_refused_after(models):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(target_modules=["embedder.embedder.convolution", "query"], init_lora_weights=False)
    plain, fast = models
    with pytest.raises(ValueError, match="FoldedConvolution"):
        peft.get_peft_model(fast, lora)
    adapted = peft.get_peft_model(plain, lora).eval()
    expected = features(plain)
    speed_up_on_cpu(adapted)
    assert any(isinstance(module, FoldedConvolution) for module in adapted.modules())
    torch.testing.assert_close(features(plain), expected, atol=1e-5, rtol=1e-5)


def test_the_pipeline_speeds_up_the_models_that_it_loads_and_no_other(models, processor, tmp_path):
    plain, _ = models
    plain.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = pipeline("video-question-answering", model=str(tmp_path)).model
    assert any(isinstance(module, FoldedConvolution) for module in loaded.modules())
    given = pipeline("video-question-answering", model=plain, processor=processor).model
    assert given is plain and not any(isinstance(module, FoldedConvolution) for module in given.modules())
