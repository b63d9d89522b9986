"""Stops a run at a training step whose numbers are not finite, in all processes at once, before the weights move."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.questions import VideoQuestion
from ..modeling_siasamrea import NonFiniteError, SiaSamReaVideoQuestionAnsweringOutput


NAMED = 3  # questions


def finite_rows(outputs: SiaSamReaVideoQuestionAnsweringOutput, labels: torch.Tensor) -> torch.Tensor:
    """Returns whether the scores of all clips and the label of each row are finite: `(questions,)`."""
    return torch.isfinite(outputs.clip_logits).flatten(1).all(dim=1) & torch.isfinite(labels.float())


class FiniteSteps:
    """
    Checks the loss, the scores and the gradient of each optimizer step. It waits for the device once per step.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Adds up over the processes, and computes the norm of the gradient for the Trainer, which is noted here.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        # Of each batch of the step: its rows, its loss, and whether the scores and label of each row are finite.
        self.batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.norm: Any = None  # of the step's gradient, where the accelerator computes it
        self._clip = accelerator.clip_grad_norm_
        accelerator.clip_grad_norm_ = self._clip_and_note

    def _clip_and_note(self, *args: Any, **kwargs: Any) -> Any:
        self.norm = self._clip(*args, **kwargs)
        return self.norm

    def note(self, rows: torch.Tensor, loss: torch.Tensor, finite: torch.Tensor) -> None:
        """Notes a batch of the step: its rows `(questions,)`, its loss, and which rows' numbers are finite."""
        self.batches.append((rows, loss.detach(), finite))

    def check(self, step: int, questions: Sequence[VideoQuestion]) -> None:
        r"""
        Checks a step between its last backward pass and the optimizer. Under fp16 the gradient may be infinite,
        because the Trainer then leaves the step out and lowers the loss scale.

        Args:
            step (`int`): The step's number, from 1.
            questions (`Sequence[VideoQuestion]`): The rows of the data set, to name those at fault.

        Raises:
            [`NonFiniteError`]: In all processes, if a number of one of them is not finite.
        """
        batches, norm = self.batches, self.norm
        self.batches, self.norm = [], None
        if not batches:
            return
        bad = torch.stack([~(torch.isfinite(loss) & finite.all()) for _, loss, finite in batches]).any()
        norm = 0.0 if norm is None or self.accelerator.scaler is not None else float(norm)
        bad |= not math.isfinite(norm)
        if not self.accelerator.reduce(bad.float(), reduction="sum").item():
            return
        found = []  # what is wrong with the batches of this process
        for rows, loss, finite in batches:
            if not (torch.isfinite(loss) and finite.all()):
                at_fault = (rows if finite.all() else rows[~finite]).tolist()
                named = [f"{questions[row].question!r} about {questions[row].video}" for row in at_fault[:NAMED]]
                more = f" and {len(at_fault) - NAMED} more" if len(at_fault) > NAMED else ""
                found.append(f"loss {loss.item()} of task {questions[at_fault[0]].task!r}, {', '.join(named)}{more}")
        what = "; ".join(gather_object(found)) or f"the norm of its gradient is {norm}"
        raise NonFiniteError(
            f"The numbers of training step {step} are not finite: {what}. "
            "Look at these rows, or lower the learning rate or max_grad_norm; the last checkpoint is as it was."
        )
