"""Folded batch norms give the numbers and gradients of plain ones."""

import copy

import pytest
import torch
from transformers import MobileNetV2Config, MobileNetV2Model, ResNetBackbone, ResNetConfig

from modeling_siasamrea.conversion.for_cpus import FoldedBatchNorm, fold_frozen_batch_norms


ENCODERS = {
    "resnet": lambda: ResNetBackbone(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 1])),
    "mobilenet_v2": lambda: MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.1)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_folding_changes_neither_numbers_nor_gradients(name):
    torch.manual_seed(0)
    plain = ENCODERS[name]().eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -1, 1)
    folded = copy.deepcopy(plain)
    fold_frozen_batch_norms(folded)
    assert all(type(m) is FoldedBatchNorm for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert plain.state_dict().keys() == folded.state_dict().keys()

    frames = torch.randn(2, 3, 64, 64)
    gradients = []
    outputs = [model(frames)[0] for model in (plain, copy.deepcopy(folded))]
    outputs = [output[-1] if isinstance(output, tuple) else output for output in outputs]
    assert (outputs[1] - outputs[0]).abs().max() < 1e-5 * outputs[0].abs().max()
    for model in (plain, folded):
        output = model(frames)[0]
        (output[-1] if isinstance(output, tuple) else output).square().mean().backward()
        gradients.append([p.grad for n, p in model.named_parameters() if "convolution" in n])
    for with_folding, without in zip(*reversed(gradients)):
        assert (with_folding - without).abs().max() < 1e-4 * without.abs().max()
