"""Trains on the small data, in the test's process or in others."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor
from transformers import Trainer

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    SiaSamReaTrainer,
    SiaSamReaTrainingArguments,
)
from modeling_siasamrea.data.dataset import VideoQuestionDataset
from modeling_siasamrea.data.questions import load_video_questions


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains, evaluates and saves; returns what was logged and answered, and the shapes of sharded parameters."""
    processor = SiaSamReaProcessor.from_pretrained(settings["start"])
    rows = load_video_questions(settings["rows"], Path(settings["rows"]).parent)
    answers = settings.get("answers", {})  # by question_id, instead of those of the file
    rows = [replace(row, answer=answers.get(row.question_id, row.answer)) for row in rows]
    dataset = VideoQuestionDataset(rows, processor)
    defaults = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    defaults |= {"logging_steps": 1, "save_strategy": "no", "warmup_steps": 0, "lr_scheduler_type": "constant"}
    arguments = SiaSamReaTrainingArguments(**(defaults | settings["arguments"]))
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(settings["start"])
    trainer = SiaSamReaTrainer(model, arguments, train_dataset=dataset, processing_class=processor)
    if settings.get("evaluate_first"):
        trainer.predict(dataset)
    trainer.train(resume_from_checkpoint=settings.get("resume"))
    shards = {
        name: (value.to_local().shape, value.shape)
        for name, value in trainer.model.named_parameters()
        if isinstance(value, DTensor)
    }
    output = trainer.predict(dataset)
    trainer.save_model()
    log = trainer.state.log_history
    return {"log": log, "predictions": output.predictions, "metrics": output.metrics, "shards": shards}


def train_until_killed(settings: dict) -> None:
    """Trains in a process that dies after it wrote the weights of step 4."""
    save = Trainer._save_optimizer_and_scheduler

    def killed(self: Trainer, folder: str) -> None:
        if folder.endswith("-4"):
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, folder)

    Trainer._save_optimizer_and_scheduler = killed
    train(settings)
