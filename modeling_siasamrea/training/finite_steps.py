"""A training step whose numbers are not finite stops the run, in all processes at once and before the weights move."""

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
    Looks at the loss, the scores and the gradient of each optimizer step. It waits for the device once a step.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Adds up over the processes. The Trainer has it compute the norm of the gradient, which is noted here.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        # Rows, loss and, for each row, whether its scores and label are finite; for each batch of the step.
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
        Ends the step, between its last backward pass and the optimizer. Under fp16 the gradient may be infinite: the
        loss scale then falls, and the step is left out.

        Args:
            step (`int`): The step's number, from 1.
            questions (`Sequence[VideoQuestion]`): The rows, to name those at fault.

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
        found = [what for of_process in gather_object([self._what(batches, questions)]) for what in of_process]
        what = " ".join(found) if found else f"The norm of its gradient is {norm}; its loss is finite."
        raise NonFiniteError(
            f"Training step {step} gave numbers that are not finite, and the run stops before they reach the weights. "
            f"{what} Look at these rows, or train with a lower learning rate or a smaller max_grad_norm; "
            "the last checkpoint is as it was."
        )

    @staticmethod
    def _what(
        batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], questions: Sequence[VideoQuestion]
    ) -> list[str]:
        """Writes a sentence for each batch of this process with such a number."""
        sentences = []
        for rows, loss, finite in batches:
            if torch.isfinite(loss) and finite.all():
                continue
            at_fault = rows.to(finite.device) if finite.all() else rows.to(finite.device)[~finite]
            named = [questions[row] for row in at_fault.tolist()[:NAMED]]
            names = "; ".join(f"{question.question!r} about {question.video}" for question in named)
            more = f" and {len(at_fault) - NAMED} more" if len(at_fault) > NAMED else ""
            scores = "" if finite.all() else ", the scores of these questions are not finite"
            sentences.append(f"Task {named[0].task!r}: the loss is {loss.item()}{scores}: {names}{more}.")
        return sentences


__all__ = ["FiniteSteps", "finite_rows"]
