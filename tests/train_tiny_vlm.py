"""Trains and evaluates a tiny video-language model on the colours of `test_trainer.py` in a process of the pair."""

from pathlib import Path

from tiny_video_language_models import tiny

from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoClipDataset
from modeling_siasamrea.video_language.trainer import VideoLanguageTrainer, VideoLanguageTrainingArguments


def train_in_two(colours: str, output: str, settings: dict, arguments: dict, fsdp: bool = False) -> tuple[list, list]:
    """Trains on open-ended questions, or sharded on choices; returns the answers and the log."""
    model, processor = tiny("qwen3_vl")
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings(num_clips=3, max_new_tokens=8, **settings))
    task = "multiple_choice" if fsdp else "open_ended"
    rows = [row for row in load_video_questions(Path(colours) / "rows.jsonl", colours) if row.task == task]
    train = [row for row in rows if "v6" not in row.video]
    defaults = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no"}
    defaults |= {"max_steps": 1 if fsdp else 2, "per_device_train_batch_size": 2, "fsdp": fsdp}
    defaults |= {"per_device_eval_batch_size": 3}  # so that the processes have other numbers of questions
    trainer = VideoLanguageTrainer(
        model,
        VideoLanguageTrainingArguments(output_dir=output, **(defaults | arguments)),
        train_dataset=VideoClipDataset(train, processor),
        eval_dataset=VideoClipDataset(rows, processor),
        processing_class=processor,
    )
    trainer.train()
    predictions = trainer.predict(trainer.eval_dataset).predictions
    trainer.save_model()
    return predictions, trainer.state.log_history
