"""Logs a training run: parts of the loss, the state of the reasoning, and rows that were left out."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.questions import VideoQuestion
from ..data.tables import read_jsonl
from ..loss_siasamrea import ground_truth_loss, mean_over_known
from ..modeling_siasamrea import SiaSamReaVideoQuestionAnsweringOutput
from ..siamese_reasoning import SiameseReasoning, average_affinity


class TrainingLog:
    """
    Averages quantities over the rows of all processes since the last log.

    Args:
        accelerator ([`~accelerate.Accelerator`]): Adds up over the processes.
        device (`torch.device`): Where the sums are kept, so that noting a value waits for nothing.
    """

    def __init__(self, accelerator: Accelerator, device: torch.device):
        self.accelerator = accelerator
        self.device = device
        # Sum and weight of each quantity.
        self.sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(2, device=self.device))

    def note(self, name: str, mean: torch.Tensor, rows: int | torch.Tensor = 1) -> None:
        """Notes a mean over some rows of this process."""
        rows = torch.as_tensor(rows, dtype=torch.float, device=self.device)
        self.sums[name] += torch.stack([mean.detach().float() * rows, rows])

    def note_outputs(
        self, outputs: SiaSamReaVideoQuestionAnsweringOutput, task: str, labels: torch.Tensor, rows: torch.Tensor
    ) -> None:
        """
        Notes whether the clips of a batch agree, how accurate anchor and soft label are, and how far the affinity is
        from even. `rows` `(2,)` are the numbers of rows whose answer is known, and of all rows.
        """
        anchor, siamese = outputs.clip_logits[:, :1], outputs.clip_logits[:, 1:]  # (questions, clips, classes)
        if siamese.shape[1] and task == "count":
            self.note("clip_difference/count", (siamese - anchor).abs().mean(), rows[1])
        elif siamese.shape[1]:
            self.note(f"clip_agreement/{task}", (siamese.argmax(-1) == anchor.argmax(-1)).float().mean(), rows[1])
        # Whether the soft label knows more than the anchor that it teaches.
        for name, scores in (("anchor", outputs.logits), ("soft_label", outputs.soft_labels)):
            if scores is not None and task == "count":
                errors = ground_truth_loss(scores, labels, task)
                self.note(f"{name}_error/count", mean_over_known(errors, labels), rows[0])
            elif scores is not None:
                right = (scores.argmax(dim=1) == labels).float()  # no class is -100
                self.note(f"{name}_accuracy/{task}", mean_over_known(right, labels), rows[0])
        if outputs.soft_labels is not None:
            even = average_affinity(outputs.affinity.shape[-1], outputs.affinity.device)
            self.note(f"affinity_deviation/{task}", (outputs.affinity - even).abs().sum(dim=-1).mean(), rows[1])
            if task != "count":
                entropy = torch.special.entr(outputs.soft_labels).sum(dim=1).mean()
                self.note(f"soft_label_entropy/{task}", entropy, rows[1])

    def note_reasoning_weights(self, module: SiameseReasoning, *_: Any) -> None:
        """Notes W1 and W2. It is a forward hook, because inside forward they are whole even if FSDP shards them."""
        for name, weights in zip(("w1", "w2"), module.weights(self.device)):
            for clip, weight in enumerate(weights):
                self.note(f"{name}/{clip}", weight)

    def means(self) -> dict[str, float]:
        """Returns the means since the last call, over all processes."""
        names = sorted(set(gather_object(list(self.sums))))
        if not names:
            return {}
        sums = torch.stack([self.sums[name] for name in names])  # (names, 2)
        sums = self.accelerator.reduce(sums, reduction="sum")
        self.sums.clear()
        return {name: (total / rows).item() for name, (total, rows) in zip(names, sums) if rows}


def mean_loss(log_history: Iterable[Mapping[str, float]]) -> float:
    """Computes the mean loss of a run's steps from its log, whose entries have the mean since the entry before."""
    total, steps = 0.0, 0
    for entry in log_history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - steps)
            steps = entry["step"]
    return total / max(steps, 1)


class SkippedVideos:
    """
    Lists the rows that training left out because their video could not be read, in `skipped_videos.jsonl`.

    Args:
        folder (`str` or `Path`): The output folder.
        is_main_process (`bool`): Whether this process writes it.
    """

    def __init__(self, folder: str | Path, is_main_process: bool):
        self.path = Path(folder) / "skipped_videos.jsonl"
        self.is_main_process = is_main_process
        self.errors: dict[int, str] = {}  # of each row that this process left out
        self.listed: dict[str, dict] = {}  # lines of the list by their question_id

    def start(self, resumed: bool) -> None:
        """Starts a new list, or continues that of the run that resumes."""
        self.errors, self.listed = {}, {}
        if not self.is_main_process:
            return
        if not resumed:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            self.listed = {line["question_id"]: line for line in read_jsonl(self.path)}

    def write(self, questions: Sequence[VideoQuestion]) -> int:
        """Adds rows of any process that are not in the list yet; returns the number of rows in the list."""
        self.errors |= gather_object(list(self.errors.items()))
        listed = len(self.listed)
        for row, error in sorted(self.errors.items()):
            name, video = questions[row].question_id, questions[row].video
            self.listed.setdefault(name, {"question_id": name, "video": video, "error": error})
        if len(self.listed) > listed and self.is_main_process:
            # The list is replaced as a whole, so that a kill leaves no half of a line.
            unfinished = self.path.with_suffix(".unfinished")
            # Bytes of a file name that are no text become escapes.
            with open(unfinished, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in self.listed.values())
            os.replace(unfinished, self.path)
        return len(self.listed)
