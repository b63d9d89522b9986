"""Trains on the small data with the settings of a JSON file; `test_several_processes.py` starts it under torchrun."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from torch.distributed.tensor import DTensor

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    SiaSamReaTrainer,
    SiaSamReaTrainingArguments,
)
from modeling_siasamrea.data.dataset import VideoQuestionDataset
from modeling_siasamrea.data.questions import load_video_questions


def train(settings: dict) -> SiaSamReaTrainer:
    """Trains, evaluates and saves; the main process writes a report into the output folder."""
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
        name: (list(value.to_local().shape), list(value.shape))
        for name, value in trainer.model.named_parameters()
        if isinstance(value, DTensor)
    }
    metrics = trainer.predict(dataset).metrics
    trainer.save_model()
    if trainer.is_world_process_zero():
        report = {"log": trainer.state.log_history, "metrics": metrics, "shards": shards}
        (Path(arguments.output_dir) / "report.json").write_text(json.dumps(report))
    return trainer


def main(path: str) -> None:
    """Trains with the settings of a JSON file."""
    train(json.loads(Path(path).read_text()))


if __name__ == "__main__":
    main(sys.argv[1])
