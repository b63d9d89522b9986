"""The training arguments: those of Transformers, with the defaults of the paper and of ClipBERT, and a few more."""

import math
import os
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from ..configuration_siasamrea import SiaSamReaConfig
from ..data.workers import end_with_launcher
from ..processors.processing_siasamrea import SiaSamReaProcessor


# Arguments of Transformers' Trainer and TrainingArguments that would have no effect, with the reason.
UNUSED = {
    "data_collator": "it makes its own from the processing_class",
    "compute_loss_func": "the loss is equation 8, which the model's configuration chooses",
    "preprocess_logits_for_metrics": "compute_metrics gets answers, not logits",
    "batch_eval_metrics": "compute_metrics gets all answers together",
    "include_for_metrics": "compute_metrics gets the answers and their right answers",
    "prediction_loss_only": "an evaluation notes answers and their loss",
    "dataloader_drop_last": "training batches are always full",
    "train_sampling_strategy": "a batch has questions of one task, in random order",
}


@dataclass
class VideoQuestionTrainingArguments(TrainingArguments):
    r"""
    Arguments that [`SiaSamReaTrainer`] and [`VideoLanguageTrainer`] share: those of
    [`~transformers.TrainingArguments`] and the ones below. A batch size counts questions, not videos.

    Args:
        warmup_steps (`float`, *optional*, defaults to 0.1):
            Steps of linear warm-up, or below 1 their share of all (paper).
        ddp_find_unused_parameters (`bool`, *optional*, defaults to `True`):
            Whether a batch may leave parameters unused, such as those of other tasks' heads.
        logging_steps (`float`, *optional*, defaults to 50): Steps between two logs (decision).
        logging_nan_inf_filter (`bool`, *optional*, defaults to `False`):
            Whether logs hide a loss that is not a number. Decision: it stops the run instead.
        questions_per_video (`int`, *optional*, defaults to 4):
            The most questions about a video in a training batch; they share its frames (decision). ClipBERT's video
            runs: 1.
        eval_offsets (`int`, *optional*, defaults to 1):
            Anchor starts from which an evaluation answers each question. With several, it takes a pass over the data
            set from each, the centred one first, and one more with the centred one's frames shuffled. The scores are
            those of the centred one, with those of [`score_consistency`] added.
        save_frames (`bool`, *optional*, defaults to `False`):
            Whether predictions have `frame_times`, the times in seconds of the frames that the model saw.

    Raises:
        `ValueError`: If a number is not finite or outside its range.
    """

    # The least value of numbers that this package's own code uses.
    least: ClassVar[dict[str, int]] = {
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "questions_per_video": 1,
        "eval_offsets": 1,
        "label_smoothing_factor": 0,
    }

    warmup_steps: float = 0.1
    ddp_find_unused_parameters: bool | None = True
    logging_nan_inf_filter: bool = False
    logging_steps: float = 50
    questions_per_video: int = 4
    eval_offsets: int = 1
    save_frames: bool = False

    def __post_init__(self):
        if "TORCHELASTIC_RUN_ID" in os.environ:
            end_with_launcher()  # now: what follows waits for the other processes
        self.check()
        if getattr(self, "activation_checkpointing", False) is None:  # the newer name, where Transformers has it
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()
        self.dataloader_pin_memory &= self.device.type != "cpu"  # PyTorch would warn
        refuse_zero_3(self)

    def check(self) -> None:
        """Raises a `ValueError` if a number is not finite or outside its range; the Trainer asks once more."""
        for argument in fields(self):
            name, value = argument.name, getattr(self, argument.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number; got {value}.")
            if name in self.least and value is not None and value < self.least[name]:
                raise ValueError(f"{name} must be {self.least[name]} or more; got {value}.")
        if self.label_smoothing_factor >= 1:
            raise ValueError(f"label_smoothing_factor must be below 1; got {self.label_smoothing_factor}.")
        if self.save_frames and getattr(self, "frame_features_dir", None) is not None:
            raise ValueError("save_frames needs decoded frames, so leave out frame_features_dir.")


@dataclass
class SiaSamReaTrainingArguments(VideoQuestionTrainingArguments):
    r"""
    Arguments of [`SiaSamReaTrainer`]: those of [`VideoQuestionTrainingArguments`], with the defaults of the paper or,
    where it is silent, of ClipBERT's MSRVTT-QA run.

    The weight of the siamese loss and all else that belongs to the method is in [`SiaSamReaConfig`].

    > Parameters whose defaults differ from `TrainingArguments`

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 16):
            Questions of a training batch on each device. Paper: 1 on each of 16 GPUs. ClipBERT: 16.
        per_device_eval_batch_size (`int`, *optional*, defaults to 16):
            Questions that fill an evaluation batch; all questions about a video stay in one batch.
        num_train_epochs (`float`, *optional*, defaults to 10): Epochs. ClipBERT: 10 for MSRVTT-QA, 15 for TGIF-QA.
        learning_rate (`float`, *optional*, defaults to 5e-5): Peak learning rate. ClipBERT: 5e-5. Paper: 5e-4.
        adam_beta2 (`float`, *optional*, defaults to 0.98): Second beta of AdamW (ClipBERT).
        weight_decay (`float`, *optional*, defaults to 1e-3):
            Weight decay (ClipBERT); none on biases, LayerNorms, W1 and W2.
        max_grad_norm (`float`, *optional*, defaults to 5.0): Gradients are clipped to this norm (ClipBERT).

    > Parameters of this class

    Args:
        image_encoder_learning_rate (`float`, *optional*):
            Peak learning rate of the pretrained image encoder; that of the rest by default (ClipBERT: both 5e-5).
        max_text_length (`int`, *optional*):
            Longest text in tokens; by default the tokenizer's limit, within the text model's positions. ClipBERT: 100,
            and 25 for TGIF-QA.
        frame_features_dir (`str`, *optional*):
            Folder where features of frames are kept and found again, in later epochs, runs and evaluations, see
            [`FrameFeatures`]. The image encoder must be frozen as a whole: `frozen_image_encoder_modules` `["all"]`.
            By default each frame is encoded each time.

    Raises:
        `ValueError`: If a number is not finite or outside its range.
    """

    least: ClassVar[dict[str, int]] = VideoQuestionTrainingArguments.least | {
        "image_encoder_learning_rate": 0,
        "max_text_length": 3,  # [CLS], one token and [SEP]
    }

    per_device_train_batch_size: int = 16
    per_device_eval_batch_size: int = 16
    num_train_epochs: float = 10.0
    learning_rate: float = 5e-5
    adam_beta2: float = 0.98
    weight_decay: float = 1e-3
    max_grad_norm: float = 5.0
    image_encoder_learning_rate: float | None = None
    max_text_length: int | None = None
    frame_features_dir: str | None = None


def refuse_zero_3(args: TrainingArguments) -> None:
    """
    Raises a `ValueError` for DeepSpeed's ZeRO-3. Its processes gather each weight together, but they answer different
    numbers of questions, so they would wait for each other for ever.
    """
    if args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
        raise ValueError("deepspeed must be ZeRO-1 or ZeRO-2; got ZeRO-3. FSDP2 (--fsdp) shards the weights, too.")


def refuse_what_is_not_used(
    model: PreTrainedModel | nn.Module | None, args: VideoQuestionTrainingArguments, processor: object, given: dict
) -> None:
    """Raises a `ValueError` for arguments that the Trainer lacks or would not use."""
    if model is None or given.get("model_init") is not None:
        raise ValueError("Give the Trainer a model; it takes no model_init.")
    if not isinstance(args, VideoQuestionTrainingArguments):
        raise ValueError(f"args must be SiaSamReaTrainingArguments; got {type(args).__name__}.")
    args.check()  # they may have been set since
    if processor is None:
        raise ValueError("The Trainer needs a processing_class, the processor that reads the questions.")
    for name, why in UNUSED.items():
        if given.get(name) is not None or getattr(args, name, None) not in (None, False, [], "random"):
            raise ValueError(f"The Trainer does not use {name}: {why}. Leave it at its default.")
    if args.n_gpu > 1:
        raise ValueError(
            f"One process cannot drive {args.n_gpu} GPUs: start `torchrun --nproc_per_node {args.n_gpu}`, or choose a "
            "GPU with CUDA_VISIBLE_DEVICES."
        )


def longest_text(args: SiaSamReaTrainingArguments, config: SiaSamReaConfig, processor: SiaSamReaProcessor) -> int:
    """The limit of texts in tokens: `max_text_length`, or the tokenizer's within the text model's positions."""
    positions = config.text_config.max_position_embeddings
    if args.max_text_length is not None and args.max_text_length > positions:
        raise ValueError(
            f"max_text_length must be at most {positions}, the text model's positions; got {args.max_text_length}."
        )
    return args.max_text_length or min(processor.tokenizer.model_max_length, positions)
