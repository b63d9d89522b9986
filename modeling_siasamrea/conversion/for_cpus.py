"""Makes a model faster on a CPU: frozen batch norms run inside the convolutions before them."""

import torch
from torch import nn

from ..image_encoder_siasamrea import SiaSamReaImageEncoder


class FoldedConvolution(nn.Module):
    """
    A convolution that also does the work of the frozen batch norm after it, by a scaled weight and a shifted bias.

    Weight and bias are computed in each call, so they follow every change of the parameters. It is no `nn.Conv2d`, so
    that `peft` refuses to add LoRA: the added output would miss the batch norm.
    """

    norm: list[nn.BatchNorm2d]  # in a list, so that its parameters are not registered a second time

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolves and normalizes `(images, channels, height, width)`."""
        norm = self.norm[0]
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (channels,)
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = self.weight * scale[:, None, None, None]
        # FSDP2's mixed precision runs parameters in half precision, but not the norm's statistics.
        weight, shift = weight.to(inputs.dtype), shift.to(inputs.dtype)
        return nn.functional.conv2d(inputs, weight, shift, self.stride, self.padding, self.dilation, self.groups)


class FoldedBatchNorm(nn.BatchNorm2d):
    """A frozen batch norm whose work the convolution before it does; it keeps the parameters and statistics."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns `inputs`."""
        return inputs


def speed_up_on_cpu(model: nn.Module) -> None:
    r"""
    Folds the frozen batch norms of a model's image encoder into its convolutions, in place.

    Parameters, names in the state dict and the numbers (to rounding) stay, in training too. Layers made of a
    `convolution` and the `normalization` of its output are folded, as in Transformers' ResNet, RegNet and MobileNets;
    other encoders and batch norms that train are left as they are. A ReLU that ends such a layer, or a residual block
    of a `layer` and a `shortcut`, writes over its input. Add LoRA to convolutions before, not after.

    Args:
        model ([`SiaSamReaPreTrainedModel`], or a `PeftModel` of one): The model.

    Example:

    ```python
    >>> model = SiaSamReaForVideoQuestionAnswering.from_pretrained("path/to/checkpoint")
    >>> speed_up_on_cpu(model)
    ```

    Origin: decision, measured by `examples/research/benchmark.py fast_paths`; ClipBERT runs each batch norm as a pass
    of its own.
    """
    encoders = [module for module in model.modules() if isinstance(module, SiaSamReaImageEncoder)]
    for layer in (layer for encoder in encoders if encoder.config.freeze_batch_norm for layer in encoder.modules()):
        children = dict(layer.named_children())
        convolution, norm = children.get("convolution"), children.get("normalization")
        # Convolutions that `peft` has wrapped are of another type, and left alone.
        types = (type(convolution), type(norm))
        folded = types == (nn.Conv2d, nn.BatchNorm2d) and convolution.padding_mode == "zeros"
        if folded:
            # The class changes, not the module: parameters, buffers and their names stay.
            convolution.__class__, norm.__class__ = FoldedConvolution, FoldedBatchNorm
            convolution.norm = [norm]
        # Nothing else reads a fresh convolution or sum; elsewhere a ReLU's input may still be needed.
        if (folded or {"layer", "shortcut"} <= children.keys()) and type(children.get("activation")) is nn.ReLU:
            children["activation"].inplace = True
