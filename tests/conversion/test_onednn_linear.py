"""Linear layers by oneDNN give the numbers and gradients of plain ones, and step aside where they must."""

import copy

import pytest
import torch
from torch import nn

from modeling_siasamrea.conversion.for_cpus import MIN_FEATURES, OneDnnLinear, run_wide_linears_by_onednn


@pytest.fixture
def layers() -> tuple[nn.Sequential, nn.Sequential]:
    """The same two layers, the wide one of the second by oneDNN."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(MIN_FEATURES, 48), nn.Tanh(), nn.Linear(48, 8, bias=False))
    fast = copy.deepcopy(plain)
    run_wide_linears_by_onednn(fast)
    return plain, fast


def used_onednn(layers: nn.Module, inputs: torch.Tensor) -> bool:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layers(inputs)
    return any(event.key == "aten::mkldnn_linear" for event in profile.key_averages())


@pytest.mark.parametrize("shape", [(3, 5, MIN_FEATURES), (0, 5, MIN_FEATURES)])
def test_numbers_and_gradients_are_those_of_plain_layers(layers, shape):
    inputs = torch.randn(shape)
    assert used_onednn(layers[1], inputs) and not used_onednn(layers[0], inputs)
    results = []
    for model in layers:
        leaf = inputs.clone().requires_grad_()
        output = model(leaf)
        output.square().sum().backward()
        results.append([output, leaf.grad, *(parameter.grad for parameter in model.parameters())])
    for plain, fast in zip(*results):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


def test_only_wide_layers_change_and_the_state_dict_stays(layers):
    plain, fast = layers
    assert [type(layer) for layer in fast] == [OneDnnLinear, nn.Tanh, nn.Linear]
    assert plain.state_dict().keys() == fast.state_dict().keys()


def test_other_precisions_and_the_switch_give_the_plain_layer(layers):
    inputs = torch.randn(2, MIN_FEATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not used_onednn(layers[1], inputs)
        assert torch.equal(layers[1](inputs), layers[0](inputs))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not used_onednn(layers[1], inputs)
    assert not used_onednn(copy.deepcopy(layers[1]).double(), inputs.double())
    compiled = torch.compile(layers[1], backend="eager")
    assert not used_onednn(compiled, inputs)
