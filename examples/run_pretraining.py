"""
Pretrains as ClipBERT does, by masked words and matching, on pictures or videos with captions.

    python examples/run_pretraining.py examples/configs/pretraining_sample.json
    python examples/run_pretraining.py --train_file captions_train2014.json --folder train2014 \
        --vision_model microsoft/resnet-50 --text_model google-bert/bert-base-uncased \
        --do_train --output_dir clipbert
    python examples/run_videoqa.py --model_name_or_path clipbert ...

Several files train together: `--train_file captions_train2014.json region_descriptions.json --folder coco vg`.
"""

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, EvalPrediction, Trainer, TrainingArguments, set_seed

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForPreTraining, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.commands.arguments import JsonObject, read_arguments
from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.data.captions import Caption, CaptionDataset, PretrainingCollator, load_captions
from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.data.vocabulary import build_tokenizer
from modeling_siasamrea.modeling_siasamrea import NonFiniteError
from modeling_siasamrea.training.checkpoints import checkpoint_to_resume, last_whole_checkpoint
from modeling_siasamrea.training.start import explained


logger = logging.getLogger(__name__)


@dataclass
class PretrainingArguments:
    """
    The model and the captions.

    Args:
        train_file (`list[str]`, *optional*): Caption files, or names for `datasets`.
        validation_file (`list[str]`, *optional*): The same for --do_eval.
        folder (`list[str]`, *optional*): Folder of the pictures, one for each file.
        model_name_or_path (`str`, *optional*): A checkpoint to go on from.
        vision_model (`str`, *optional*): A pretrained image encoder.
        text_model (`str`, *optional*): A pretrained BERT and its tokenizer.
        model_config (`dict`, *optional*): Fields of SiaSamReaConfig as JSON.
        video_processor (`dict`, *optional*): Settings of SiaSamReaVideoProcessor as JSON.
        max_text_length (`int`, *optional*, defaults to 20): Longest text in tokens. ClipBERT: 20.
        mask_probability (`float`, *optional*, defaults to 0.15): Share of masked words. ClipBERT: 0.15.
        sample_captions (`int`, *optional*, defaults to 0):
            Pictures of make_sample_captions to write where the files are missing.
    """

    train_file: list[str] | None = None
    validation_file: list[str] | None = None
    folder: list[str] | None = None
    model_name_or_path: str | None = None
    vision_model: str | None = None
    text_model: str | None = None
    model_config: dict | str | None = field(default=None, metadata={"action": JsonObject})
    video_processor: dict | str | None = field(default=None, metadata={"action": JsonObject})
    max_text_length: int = 20
    mask_probability: float = 0.15
    sample_captions: int = 0

    def __post_init__(self):
        if self.max_text_length < 4:
            raise ValueError(
                f"--max_text_length must be 4 or more, two words in [CLS] and [SEP]; got {self.max_text_length}."
            )
        if not 0 < self.mask_probability < 1:
            raise ValueError(f"--mask_probability must lie between 0 and 1; got {self.mask_probability}.")
        if self.sample_captions < 0 or (self.sample_captions and not self.train_file):
            raise ValueError("--sample_captions must be a number of pictures, made in the folder of --train_file.")
        if (self.vision_model is None) != (self.text_model is None):
            raise ValueError("Give --vision_model and --text_model together: the model is built from both encoders.")


@dataclass
class ClipBertPretrainingArguments(TrainingArguments):
    """
    Arguments of the Trainer with ClipBERT's values.

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 64): Pairs of a batch.
        num_train_epochs (`float`, *optional*, defaults to 40): Epochs.
        learning_rate (`float`, *optional*, defaults to 5e-5): Peak learning rate.
        warmup_steps (`float`, *optional*, defaults to 0.1): Share of the steps.
        adam_beta2 (`float`, *optional*, defaults to 0.98): Second beta of AdamW.
        weight_decay (`float`, *optional*, defaults to 1e-3): Weight decay.
        max_grad_norm (`float`, *optional*, defaults to 5): Gradients are clipped to this norm.
        logging_nan_inf_filter (`bool`, *optional*, defaults to `False`): Off: a loss that is NaN stops the run.
    """

    per_device_train_batch_size: int = 64
    num_train_epochs: float = 40.0
    learning_rate: float = 5e-5
    warmup_steps: float = 0.1
    adam_beta2: float = 0.98
    weight_decay: float = 1e-3
    max_grad_norm: float = 5.0
    logging_nan_inf_filter: bool = False


def parse_arguments(argv: Sequence[str] | None) -> tuple[PretrainingArguments, ClipBertPretrainingArguments]:
    """Reads the arguments of a JSON file, where one comes first, and of the command line over it."""
    classes = (PretrainingArguments, ClipBertPretrainingArguments)
    arguments, training = read_arguments(argv, classes, __doc__)
    training.remove_unused_columns = False
    training.label_names = ["labels", "matching_labels"]
    return arguments, training


def read_files(files: list[str] | None, folders: list[str] | None, split: str) -> list[Caption]:
    """Reads the captions of several files, each with its folder."""
    if not files:
        return []
    folders = folders or [None] * len(files)
    if len(folders) != len(files):
        raise ValueError(f"There are {len(files)} caption files and {len(folders)} folders; give one folder for each.")
    return [caption for file, folder in zip(files, folders) for caption in load_captions(file, folder, split)]


def build(
    arguments: PretrainingArguments, captions: list[Caption]
) -> tuple[SiaSamReaForPreTraining, SiaSamReaProcessor]:
    """Makes the model and its processor from a checkpoint, two pretrained encoders, or random weights."""
    if arguments.model_name_or_path is not None:
        with explained(f"The checkpoint {arguments.model_name_or_path} cannot be loaded"):
            model = SiaSamReaForPreTraining.from_pretrained(arguments.model_name_or_path)
            return model, SiaSamReaProcessor.from_pretrained(arguments.model_name_or_path)
    fields = {"tasks": [], "pixel_random_sampling_size": 100} | (arguments.model_config or {})
    settings = arguments.video_processor or {}
    if arguments.vision_model is not None:
        with explained(f"The encoders {arguments.vision_model} and {arguments.text_model} cannot be loaded"):
            model = SiaSamReaForPreTraining.from_vision_text_pretrained(
                arguments.vision_model, arguments.text_model, **fields
            )
        video_processor = SiaSamReaVideoProcessor.from_image_encoder(arguments.vision_model, **settings)
        return model, SiaSamReaProcessor(video_processor, AutoTokenizer.from_pretrained(arguments.text_model))
    logger.warning("The model starts from random weights, its tokenizer from the words of the captions.")
    rows = [VideoQuestion("", caption.text, None, "open_ended", "") for caption in captions]
    tokenizer = build_tokenizer(rows)
    text_config = {"model_type": "bert", **fields.pop("text_config", {}), "vocab_size": len(tokenizer)}
    model = SiaSamReaForPreTraining(SiaSamReaConfig(text_config=text_config, **fields))
    return model, SiaSamReaProcessor(SiaSamReaVideoProcessor(**settings), tokenizer)


def best_guesses(logits: tuple[torch.Tensor, ...], labels: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Keeps the likeliest word of each place and the likelier match, instead of all scores."""
    *_, words, matches = logits
    return words.argmax(dim=-1), matches.argmax(dim=-1)


def scores(predictions: EvalPrediction) -> dict[str, float]:
    r"""
    Computes the accuracy of masked words and of matching.

    Returns:
        `dict[str, float]`: `masked_words_accuracy`, `unigram_accuracy` (always the most frequent masked word: the best
        that knows neither picture nor context), `matching_accuracy` and `matching_chance`.
    """
    (words, matches), (word_labels, match_labels) = predictions.predictions, predictions.label_ids
    masked = word_labels != -100
    commonest = Counter(word_labels[masked].tolist()).most_common(1)[0][1]
    share = float(np.mean(match_labels))
    return {
        "masked_words_accuracy": float((words[masked] == word_labels[masked]).mean()),
        "unigram_accuracy": commonest / int(masked.sum()),
        "matching_accuracy": float((matches == match_labels).mean()),
        "matching_chance": max(share, 1 - share),
    }


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Pretrains; returns the validation scores."""
    arguments, training = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING, format="%(message)s")
    set_seed(training.seed)
    Path(training.output_dir).mkdir(parents=True, exist_ok=True)
    for wanted, name in ((training.do_train, "train"), (training.do_eval, "validation")):
        if wanted and getattr(arguments, f"{name}_file") is None:
            raise ValueError(f"There are no {name} captions: give --{name}_file.")
    if arguments.sample_captions:
        from make_sample_captions import make_sample_captions

        make_sample_captions(Path(arguments.train_file[0]).parent, arguments.sample_captions)
    train = read_files(arguments.train_file, arguments.folder, "train")
    validation = read_files(arguments.validation_file, arguments.folder, "validation")
    model, processor = build(arguments, train)
    text = {"max_length": arguments.max_text_length, "mask_probability": arguments.mask_probability}

    class PretrainingTrainer(Trainer):
        """Masks the same words in each evaluation, and stops at a loss that is not finite."""

        def training_step(self, *step, **options) -> torch.Tensor:
            loss = super().training_step(*step, **options)
            if not torch.isfinite(loss):
                raise NonFiniteError(
                    f"The loss of training step {self.state.global_step + 1} is {loss.item()}: lower the learning "
                    "rate; the last checkpoint is as it was."
                )
            return loss

        def get_eval_dataloader(self, eval_dataset=None):
            self.data_collator = PretrainingCollator(processor, **text)
            loader = super().get_eval_dataloader(eval_dataset)
            self.data_collator = PretrainingCollator(processor, training=True, **text)
            return loader

    trainer = PretrainingTrainer(
        model=model,
        args=training,
        data_collator=PretrainingCollator(processor, training=True, **text),
        train_dataset=CaptionDataset(train, processor, training=True) if train else None,
        eval_dataset=CaptionDataset(validation, processor) if validation else None,
        processing_class=processor,
        compute_metrics=scores,
        preprocess_logits_for_metrics=best_guesses,
    )
    if training.do_train:
        wanted = checkpoint_to_resume(training.output_dir, training.resume_from_checkpoint)
        trainer.train(resume_from_checkpoint=wanted or last_whole_checkpoint(training.output_dir))
        trainer.save_model()
    if not training.do_eval:
        return {}
    report = trainer.evaluate()
    trainer.save_metrics("eval", report)
    for name, value in report.items():
        print(f"{name:40s}{value:12.4f}")
    return report


if __name__ == "__main__":
    sys.exit(run_command(main))
