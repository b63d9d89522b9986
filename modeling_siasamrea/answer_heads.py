"""The heads that score answers (ClipBERT), and the counting head's batch norm, which spans all processes."""

import torch
import torch.distributed as dist
from torch import nn

from .configuration_siasamrea import SiaSamReaConfig


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient, for each process uses the sum."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.apply(gradient.contiguous())


class SiaSamReaCountBatchNorm(nn.BatchNorm1d):
    """
    Batch norm whose statistics in training are those of the questions of all processes, so that two processes train
    as one with their batches together; one question in all is normalised by the running statistics (decision).

    PyTorch's `SyncBatchNorm` does the same, but on GPUs only.

    Attributes:
        counted (`bool`): Whether this process's questions count; the Trainer says no of rows that only stand in.
    """

    counted = True

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalises `(questions, hidden_size)`."""
        processes = dist.get_world_size() if self.training and dist.is_initialized() else 1
        if processes > 1:
            return self._normalize_over_processes(features)
        if not self.training or len(features) == 1:
            return self._normalize_by_running_statistics(features)
        return super().forward(features)

    def _normalize_by_running_statistics(self, features: torch.Tensor) -> torch.Tensor:
        # In single precision, for FSDP2's mixed precision halves the parameters and not the statistics.
        values = (features, self.running_mean, self.running_var, self.weight, self.bias)
        normalized = nn.functional.batch_norm(*(value.float() for value in values), eps=self.eps)
        return normalized.to(features.dtype)

    def _normalize_over_processes(self, features: torch.Tensor) -> torch.Tensor:
        values = features.float()
        # Sums and the number of questions travel together: (hidden_size + 1,)
        own = torch.cat([values.sum(dim=0), values.new_tensor([len(values)])]) * self.counted
        total = _SumOverProcesses.apply(own)
        questions = total[-1].detach()
        if questions == 1:
            return self._normalize_by_running_statistics(features)
        mean = total[:-1] / questions
        variance = _SumOverProcesses.apply(((values - mean) ** 2).sum(dim=0) * self.counted) / questions
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * questions / (questions - 1), self.momentum)
        normalized = (values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normalized.to(features.dtype)


def answer_head(config: SiaSamReaConfig, task: str) -> nn.Sequential:
    """ClipBERT's head for `task`: one score an answer, one score a candidate, or one number."""
    hidden_size, dropout = config.text_config.hidden_size, config.text_config.hidden_dropout_prob
    if task == "count":
        return nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ELU(),
            SiaSamReaCountBatchNorm(hidden_size),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, 1),
        )
    width = config.classifier_hidden_scale * hidden_size
    classes = config.num_labels if task == "open_ended" else 1
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_size, width), nn.ReLU(), nn.Linear(width, classes))


__all__ = ["SiaSamReaCountBatchNorm", "answer_head"]
