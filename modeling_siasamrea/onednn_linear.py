"""Wide linear layers run by oneDNN on a CPU in float32: the same numbers, on some processors in half the time."""

import torch
from torch import nn


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
