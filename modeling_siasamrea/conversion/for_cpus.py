"""Makes a model faster on a CPU: folded batch norms, oneDNN's linear layers, packed weights."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..image_encoder_siasamrea import SiaSamReaImageEncoder


class FoldedConvolution(nn.Conv2d):
    """A convolution that applies the frozen batch norm after it by scaling its own weight and shifting its bias."""

    norm: list[nn.BatchNorm2d]  # in a list, so that it is not registered a second time

    def folded_weights(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of convolution and batch norm as one."""
        norm = self.norm[0]
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (channels,)
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = self.weight * scale[:, None, None, None]
        # FSDP2's mixed precision runs parameters in half precision, but not the norm's statistics.
        return weight.to(dtype), shift.to(dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolution and batch norm of `(images, channels, height, width)`."""
        return self._conv_forward(inputs, *self.folded_weights(inputs.dtype))


class FoldedBatchNorm(nn.BatchNorm2d):
    """A frozen batch norm whose work is done by the convolution before it; it keeps the parameters and statistics."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns `inputs`."""
        return inputs


def fold_frozen_batch_norms(image_encoder: nn.Module) -> None:
    """
    Folds the batch norms of an image encoder into its convolutions, in place; names in its state dict stay.

    Args:
        image_encoder (`torch.nn.Module`):
            An encoder whose batch norms are frozen. Layers made of a `convolution` and the `normalization` of its
            output are folded, as in Transformers' ResNet, RegNet, MobileNet and MobileViT; others are left alone.
            A ReLU that ends such a layer, or a residual block of a `layer` and a `shortcut`, writes over its input.

    Origin: decision, measured by `examples/benchmark.py`; ClipBERT runs each batch norm and ReLU as a pass of its own.
    """
    for layer in image_encoder.modules():
        children = dict(layer.named_children())
        convolution, norm = children.get("convolution"), children.get("normalization")
        folded = type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d
        if folded:
            # The class changes, not the module: parameters, buffers and their names are untouched.
            convolution.__class__, norm.__class__ = FoldedConvolution, FoldedBatchNorm
            convolution.norm = [norm]
        # Nothing else reads a fresh convolution or sum; elsewhere a ReLU's input may still be needed.
        if (folded or {"layer", "shortcut"} <= children.keys()) and type(children.get("activation")) is nn.ReLU:
            children["activation"].inplace = True


# Narrower layers lose more to the way in and out of oneDNN's tensors than its product saves.
MIN_FEATURES = 384


def by_onednn(inputs: torch.Tensor) -> bool:
    """Whether a layer may give `inputs` to oneDNN by itself: on a CPU, where nothing else decides how it is run."""
    return (
        not torch.compiler.is_compiling()
        and inputs.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
    )


class OneDnnLinear(nn.Linear):
    """
    A linear layer whose product is oneDNN's on a CPU in float32; everywhere else it is its base class.

    `torch.backends.mkldnn.flags(enabled=False)` turns it off, as it does PyTorch's own use of oneDNN.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs `(..., in_features)` to `(..., out_features)`."""
        if not by_onednn(inputs) or inputs.dtype != torch.float32:
            return super().forward(inputs)
        return nn.functional.linear(inputs.to_mkldnn(), self.weight, self.bias).to_dense()


def run_wide_linears_by_onednn(model: nn.Module) -> None:
    """
    Makes each linear layer of `model` with enough features a [`OneDnnLinear`], in place; parameters and names stay.

    Origin: decision, measured by `examples/benchmark.py`: PyTorch's BLAS reaches half of what oneDNN does on an AMD
    processor with AVX-512. ClipBERT has plain linear layers.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.in_features >= MIN_FEATURES:
            module.__class__ = OneDnnLinear


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


def speed_up_on_cpu(model: nn.Module) -> None:
    r"""
    Makes a model faster on a CPU, in place; parameters, their names and the numbers (to rounding) stay.

    Args:
        model ([`SiaSamReaPreTrainedModel`], or a `PeftModel` of one): The model.

    Origin: decision; `python examples/research/benchmark.py fast_paths` measures it.
    """
    for module in model.modules():
        if isinstance(module, SiaSamReaImageEncoder) and module.config.freeze_batch_norm:
            fold_frozen_batch_norms(module.encoder)
    run_wide_linears_by_onednn(model)


__all__ = ["pack_weights", "speed_up_on_cpu"]
