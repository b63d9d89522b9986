"""Packed weights give the numbers of plain ones, are made once, and never outlive a change of the weights."""

import copy
import pickle

import pytest
import torch
from torch import nn

from modeling_siasamrea.conversion.for_cpus import (
    MIN_FEATURES,
    PackedConvolution,
    PackedFoldedConvolution,
    PackedLinear,
    fold_frozen_batch_norms,
    pack_weights,
    run_wide_linears_by_onednn,
)


pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")),
    reason="weights are packed for x86 processors only",
)
BFLOAT16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Layer(nn.Module):
    """A convolution and its batch norm under the names by which they are folded."""

    def __init__(self, **settings):
        super().__init__()
        self.convolution = nn.Conv2d(8, 16, 3, **settings)
        self.normalization = nn.BatchNorm2d(16).requires_grad_(False)
        for tensor in self.normalization.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.normalization(self.convolution(images))


def packed_and_plain() -> tuple[nn.Module, nn.Module]:
    """The same model twice, packed and as it is."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        Layer(padding=1, bias=False),
        nn.Conv2d(16, 8, 3, stride=2, groups=2),
        nn.Flatten(2),
        nn.Linear(MIN_FEATURES, 48),
    ).eval()
    fold_frozen_batch_norms(plain)
    run_wide_linears_by_onednn(plain)
    packed = copy.deepcopy(plain)
    pack_weights(packed)
    return packed, plain


IMAGES = (2, 8, 33, 49)  # the second convolution leaves 16 x 24, as many as the linear layer has features


def made(model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The model's output, and how many weights were packed for it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.no_grad():
        output = model(inputs)
    packing = ("mkldnn::_reorder_linear_weight", "aten::mkldnn_reorder_conv2d_weight")
    return output, sum(event.count for event in profile.key_averages() if event.key in packing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16] if BFLOAT16 else [torch.float32])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_numbers_are_those_of_plain_weights_and_packed_once(dtype, memory_format):
    packed, plain = (model.to(dtype) for model in packed_and_plain())
    kinds = [PackedFoldedConvolution, PackedConvolution, PackedLinear]
    assert [type(layer) for layer in (packed[0].convolution, packed[1], packed[3])] == kinds
    assert packed.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(IMAGES).to(dtype, memory_format=memory_format)
    with torch.no_grad():
        expected = plain(images)
    tolerance = (1e-5 if dtype == torch.float32 else 1e-2) * expected.abs().max().item()
    for count in (3, 0):
        output, packings = made(packed, images)
        torch.testing.assert_close(output, expected, atol=tolerance, rtol=0)
        assert packings == count
    assert made(packed, images[:1])[1] == 0  # another number of images needs no other order


def test_a_strided_row_and_another_number_of_rows():
    packed, plain = (model[3] for model in packed_and_plain())
    rows = torch.randn(5, 7, MIN_FEATURES)
    with torch.no_grad():
        for inputs in (rows, rows[:, 0], rows[0], rows[0, 0], rows.transpose(0, 1), rows[:0]):
            torch.testing.assert_close(packed(inputs), plain(inputs), atol=1e-5, rtol=1e-5)


def write_through_data(model: nn.Module) -> None:
    """Adds to a weight as peft does when it merges an adapter, which PyTorch does not count as a write."""
    model[3].weight.data += 0.1


CHANGES = {
    "optimizer": lambda model: [p.add_(0.1) for p in model.parameters()],
    "load_state_dict": lambda model: model.load_state_dict({n: v * 1.5 for n, v in model.state_dict().items()}),
    "one value": lambda model: model[3].weight[0, 1].add_(10),
    "data": write_through_data,
    "data of a convolution": lambda model: model[1].weight.data.mul_(2),
    "statistics": lambda model: model[0].normalization.running_var.mul_(2),
    "another parameter": lambda model: setattr(model[3], "weight", nn.Parameter(model[3].weight * 2)),
    "precision and back": lambda model: model.double().float(),
    "another bias": lambda model: model[3].bias.data.add_(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_change_are_packed_again(change):
    packed, plain = packed_and_plain()
    images = torch.randn(IMAGES)
    with torch.no_grad():
        packed(images)
        before = plain(images)
        for model in (packed, plain):
            CHANGES[change](model)
        torch.testing.assert_close(packed(images), plain(images), atol=1e-4, rtol=1e-5)
        assert change == "precision and back" or (plain(images) - before).abs().max() > 1e-3


def test_another_size_of_image_has_an_order_of_its_own():
    packed, plain = (model[:2] for model in packed_and_plain())
    for size in (33, 64, 33):
        images = torch.randn(1, 8, size, size)
        output, packings = made(packed, images)
        assert packings == 2
        torch.testing.assert_close(output, plain(images), atol=1e-5, rtol=1e-5)


def test_training_goes_on_as_before():
    results = []
    for model in packed_and_plain():
        torch.manual_seed(1)
        images = torch.randn(IMAGES, requires_grad=True)
        with torch.no_grad():
            model(images)
        model(images).square().sum().backward()
        trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
        results.append([images.grad, *(parameter.grad for parameter in trained)])
    for packed, plain in zip(*results):
        torch.testing.assert_close(packed, plain)


def test_a_packed_model_can_be_copied_and_pickled():
    packed, plain = packed_and_plain()
    images = torch.randn(IMAGES)
    with torch.no_grad():
        packed(images)
        for again in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            again[3].weight.mul_(2)
            assert not torch.equal(again(images), packed(images))
        torch.testing.assert_close(packed(images), plain(images), atol=1e-5, rtol=1e-5)


def test_inputs_for_which_a_layer_steps_aside():
    packed, _ = packed_and_plain()
    images = torch.randn(IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(packed, images)[1] == 0
    with torch.backends.mkldnn.flags(enabled=False):
        assert made(packed, images)[1] == 0
    assert made(packed.double(), images.double())[1] == 0
    same = nn.Conv2d(8, 8, 3, padding="same")
    circular = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
    for convolution in (same, circular):
        pack_weights(convolution)
        assert type(convolution) is nn.Conv2d
