"""Weights kept in oneDNN's own order from one answer to the next, instead of put into it anew for each."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .batch_norm_folding import FoldedConvolution
from .onednn_linear import OneDnnLinear, by_onednn


SAMPLES = 64  # values of a weight by which it is known again
# Beside the layers and not in them, because such tensors can be neither copied nor pickled.
_packed: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()


def pack_weights(model: nn.Module) -> None:
    r"""
    Has a model that answers on a CPU keep its weights in oneDNN's order, in place; parameters and names stay.

    What oneDNN computes with is another order of the same numbers, which PyTorch makes anew in each call: for one
    question as much work as a fifth of the answer. A copy in that order, and for frozen batch norms one that they are
    folded into, is made by the first answer and costs the weights' memory once more. A weight that has changed since
    is packed again: its place, its count of writes and 64 of its values tell. (A write of single values through
    `.data`, which PyTorch does not count, would be missed.) Where gradients are wanted, on other devices, under
    autocast and while compiling a layer works as before.

    Args:
        model (`torch.nn.Module`):
            The model. Its [`OneDnnLinear`] layers, and convolutions with and without a folded batch norm, are changed.

    Origin: decision, measured by `python examples/benchmark.py packed_weights`.
    """
    # The operators are those of torch.compile's CPU code, and have been measured on x86 processors.
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return
    for module in model.modules():
        if type(module) is OneDnnLinear:
            module.__class__ = PackedLinear
        elif type(module) in CONVOLUTIONS and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = CONVOLUTIONS[type(module)]


def _can_be_packed(layer: nn.Module, inputs: torch.Tensor) -> bool:
    return (
        by_onednn(inputs)
        and not torch.is_grad_enabled()
        and layer.weight.device.type == "cpu"
        and inputs.dtype == layer.weight.dtype
        and (
            inputs.dtype == torch.float32
            or (inputs.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        )
        and not layer.weight.is_inference()  # such tensors do not count writes
        and inputs.numel() > 0
    )


def _kept(layer: nn.Module, tensors: list[torch.Tensor], size: tuple[int, ...], pack: Callable[[], tuple]) -> tuple:
    """What was packed for a layer; by `pack` if that is nothing yet, or was of other tensors or another size."""
    # Writes through `.data` are not counted, hence the values.
    places = (size, *((t.data_ptr(), t._version, t.dtype) for t in tensors))
    samples = [t.as_strided((min(t.numel(), SAMPLES),), (max(t.numel() // SAMPLES, 1),)) for t in tensors]
    values = torch.cat([sample.float() for sample in samples])
    kept = _packed.get(layer)
    if kept is None or kept[0] != places or not torch.equal(kept[1], values):
        kept = _packed[layer] = (places, values, pack())
    return kept[2]


class PackedLinear(OneDnnLinear):
    """A linear layer that keeps its weight in oneDNN's order, see [`pack_weights`]."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs `(..., in_features)` to `(..., out_features)`."""
        if not _can_be_packed(self, inputs):
            return super().forward(inputs)

        def pack() -> tuple[torch.Tensor]:
            return (torch.ops.mkldnn._reorder_linear_weight(self.weight, inputs.numel() // inputs.shape[-1]),)

        (weight,) = _kept(self, [self.weight], (), pack)  # one order does for any number of rows
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, self.bias, "none", [], "")


class PackedConvolution(nn.Conv2d):
    """A convolution that keeps its weight in oneDNN's order, see [`pack_weights`]."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolution, with the batch norm that may be folded into it, of `(images, channels, height, width)`."""
        if not _can_be_packed(self, inputs):
            return super().forward(inputs)
        norms = self.norm if isinstance(self, FoldedConvolution) else []
        tensors = [t for part in (self, *norms) for t in (*part.parameters(False), *part.buffers(False))]
        settings = (self.padding, self.stride, self.dilation, self.groups)

        def pack() -> tuple[torch.Tensor, torch.Tensor | None]:
            weight, bias = self.folded_weights(inputs.dtype) if norms else (self.weight, self.bias)
            shape = list(inputs.shape)
            return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *settings, shape), bias

        weight, bias = _kept(self, tensors, tuple(inputs.shape[2:]), pack)  # each size of image has an order
        return torch.ops.mkldnn._convolution_pointwise(inputs, weight, bias, *settings, "none", [], "")


class PackedFoldedConvolution(PackedConvolution, FoldedConvolution):
    """The same for a convolution that a frozen batch norm is folded into."""


CONVOLUTIONS = {nn.Conv2d: PackedConvolution, FoldedConvolution: PackedFoldedConvolution}

__all__ = ["pack_weights"]
