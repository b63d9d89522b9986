"""Frozen batch norms run inside the convolutions they follow and ReLUs in place: the same numbers, fewer passes."""

import torch
from torch import nn


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
