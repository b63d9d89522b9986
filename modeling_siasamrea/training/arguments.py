"""The training arguments of SiaSamRea: those of Transformers, with the paper's defaults, and a few more."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn
from transformers import TrainingArguments

from ..configuration_siasamrea import SiaSamReaConfig
from ..processors.processing_siasamrea import SiaSamReaProcessor


# The least value of each number, and the numbers that must be below 1.
LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "questions_per_video": 1,
    "eval_offsets": 1,
    "max_text_length": 3,  # [CLS], one token and [SEP]
    "num_train_epochs": 0,
    "learning_rate": 0,
    "image_encoder_learning_rate": 0,
    "warmup_steps": 0,
    "alpha_warmup_steps": 0,
    "weight_decay": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "max_grad_norm": 0,
    "label_smoothing_factor": 0,
    "dataloader_num_workers": 0,
    "logging_steps": 0,
    "save_total_limit": 1,
    "seed": 0,
    "data_seed": 0,
}
BELOW_ONE = ("adam_beta1", "adam_beta2", "label_smoothing_factor")
ABOVE_ZERO = ("eval_steps", "save_steps")
WHOLE = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_steps"),
    *("questions_per_video", "eval_offsets", "max_text_length", "dataloader_num_workers", "save_total_limit"),
    *("seed", "data_seed"),
)
LARGEST_SEED = 2**32 - 1  # NumPy's


@dataclass
class SiaSamReaTrainingArguments(TrainingArguments):
    r"""
    Arguments of [`SiaSamReaTrainer`]: those of [`~transformers.TrainingArguments`], with the defaults of the paper or,
    where it is silent, of ClipBERT's MSRVTT-QA run. A batch size counts questions, not videos.

    The weight of the siamese loss and all else that belongs to the method is in [`SiaSamReaConfig`].

    > Parameters whose defaults differ from `TrainingArguments`

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 16): Paper: 1 on each of 16 GPUs. ClipBERT: 16.
        per_device_eval_batch_size (`int`, *optional*, defaults to 16): Questions that fill an evaluation batch.
        num_train_epochs (`float`, *optional*, defaults to 10): ClipBERT, MSRVTT-QA (15 for TGIF-QA).
        learning_rate (`float`, *optional*, defaults to 5e-5): ClipBERT. Paper: 5e-4.
        warmup_steps (`float`, *optional*, defaults to 0.1): Paper: 10 % of the steps.
        adam_beta2 (`float`, *optional*, defaults to 0.98): ClipBERT.
        weight_decay (`float`, *optional*, defaults to 1e-3): ClipBERT.
        max_grad_norm (`float`, *optional*, defaults to 5.0): ClipBERT.
        logging_steps (`float`, *optional*, defaults to 50): Decision.
        logging_nan_inf_filter (`bool`, *optional*, defaults to `False`): Decision: a loss that is NaN stops the run.
        ddp_find_unused_parameters (`bool`, *optional*, defaults to `True`): A batch trains the head of one task.

    > Parameters of this class

    Args:
        image_encoder_learning_rate (`float`, *optional*):
            Peak learning rate of the pretrained image encoder; that of the rest by default (ClipBERT: both 5e-5).
        questions_per_video (`int`, *optional*, defaults to 4):
            The most questions about a video in a training batch; they share its frames.
        max_text_length (`int`, *optional*): Longest text in tokens; by default the tokenizer's
            limit, within the text model's positions.
        alpha_warmup_steps (`float`, *optional*, defaults to 0):
            Steps, or below 1 their share of all, in which the weight of the siamese loss rises from 0 to `alpha`.
        eval_offsets (`int`, *optional*, defaults to 1):
            Anchor starts that each question is answered from at evaluation, the centred one first, and once more with
            the centred one's frames shuffled. The scores stay the centred one's; beside them stand those of
            [`score_consistency`]. A video is decoded once and its starts are encoded one after the other.
        frame_features_dir (`str`, *optional*):
            Folder where features of frames are kept and found again, in later epochs, runs and evaluations, see
            [`FrameFeatures`]. The image encoder must be frozen as a whole. By default each frame is encoded each time.

    Raises:
        `ValueError`: If a number is not finite or outside its range; the message names the argument and the range.
    """

    per_device_train_batch_size: int = field(
        default=16,
        metadata={"help": "Questions of a training batch on each device. Paper: 1 on each of 16 GPUs. ClipBERT: 16."},
    )
    per_device_eval_batch_size: int = field(
        default=16,
        metadata={"help": "Questions that fill an evaluation batch; all questions about a video stay in one batch."},
    )
    num_train_epochs: float = field(
        default=10.0, metadata={"help": "Epochs. ClipBERT: 10 for MSRVTT-QA, 15 for TGIF-QA."}
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate. ClipBERT: 5e-5. Paper: 5e-4."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up, or below 1 their share of all. Paper: 0.1."}
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of AdamW. ClipBERT: 0.98."})
    weight_decay: float = field(
        default=1e-3, metadata={"help": "Weight decay; none on biases, LayerNorms, W1 and W2. ClipBERT: 1e-3."}
    )
    max_grad_norm: float = field(default=5.0, metadata={"help": "Gradients are clipped to this norm. ClipBERT: 5.0."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Decision: off. A loss that is no number stops the run, it is not hidden."}
    )
    logging_steps: float = field(default=50, metadata={"help": "Steps between two logs. Decision: 50."})
    ddp_find_unused_parameters: bool | None = field(
        default=True, metadata={"help": "A batch trains one task's head, so other heads' parameters go unused."}
    )
    image_encoder_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of the pretrained image encoder. Default: learning_rate, as ClipBERT."},
    )
    questions_per_video: int = field(
        default=4,
        metadata={
            "help": "The most questions about a video in a training batch; they share its frames. Decision: 4; "
            "ClipBERT's video runs: 1."
        },
    )
    max_text_length: int | None = field(
        default=None,
        metadata={"help": "Longest text in tokens. ClipBERT: 100, and 25 for TGIF-QA. Default: the tokenizer's."},
    )
    alpha_warmup_steps: float = field(
        default=0.0,
        metadata={"help": "Steps, or below 1 their share of all, in which alpha rises from 0. Decision: 0 (none)."},
    )
    eval_offsets: int = field(
        default=1,
        metadata={
            "help": "Anchor starts that each question is answered from at evaluation: with 2 or more, how steady "
            "answers are is reported beside the centred anchor's accuracy. Paper: 1, the centred anchor alone."
        },
    )
    frame_features_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder where the features of frames are kept and found again in later epochs, runs and "
            'evaluations. Needs an image encoder that is frozen as a whole: frozen_image_encoder_modules ["all"].'
        },
    )

    def __post_init__(self):
        switches = [name for name, kind in TrainingArguments.__annotations__.items() if kind in (bool, "bool")]
        for name in switches:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}.")
        self.check()
        super().__post_init__()

    def check(self) -> None:
        """Raises a `ValueError` if a number is one that its argument cannot have; the Trainer asks once more."""
        for argument in fields(self):
            value = getattr(self, argument.name)
            if value is not None or argument.default is not None:
                _check_range(argument.name, value)


def _check_range(name: str, value: Any) -> None:
    """Raises a `ValueError` if a number is none, is not finite, or is outside the argument's range."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in (*LEAST, *ABOVE_ZERO, *WHOLE) and not is_number:
        raise ValueError(f"{name} must be a number; got {value!r}.")
    if not is_number:
        return
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {value}.")
    if name in WHOLE and not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number; got {value}.")
    if name == "max_steps" and value < 1 and value != -1:
        raise ValueError(f"max_steps must be 1 or more, or -1 for num_train_epochs; got {value}.")
    if name.endswith("seed") and value > LARGEST_SEED:
        raise ValueError(f"{name} must be {LARGEST_SEED} or less; got {value}.")
    if name in ABOVE_ZERO and value <= 0:
        raise ValueError(f"{name} must be above 0; got {value}.")
    if name in BELOW_ONE and not 0 <= value < 1:
        raise ValueError(f"{name} must be 0 or more and below 1; got {value}.")
    if name in LEAST and value < LEAST[name]:
        raise ValueError(f"{name} must be {LEAST[name]} or more; got {value}.")


def refuse_what_is_not_used(
    model: nn.Module | None, args: SiaSamReaTrainingArguments, processor: SiaSamReaProcessor | None, given: dict
) -> None:
    """Raises a `ValueError` for arguments that the Trainer lacks, or would not use."""
    if model is None or given.get("model_init") is not None:
        raise ValueError("Give SiaSamReaTrainer a model; it takes no model_init.")
    if not isinstance(args, SiaSamReaTrainingArguments):
        raise ValueError(f"SiaSamReaTrainer needs SiaSamReaTrainingArguments; got {type(args).__name__}.")
    args.check()  # they may have been set since
    if processor is None:
        raise ValueError("SiaSamReaTrainer needs a processing_class, the SiaSamReaProcessor that reads the questions.")
    for name, why in (
        ("data_collator", "it makes its own from the processing_class"),
        ("compute_loss_func", "the loss is equation 8, which the model's configuration chooses"),
        ("preprocess_logits_for_metrics", "compute_metrics gets answers, not logits"),
    ):
        if given.get(name) is not None:
            raise ValueError(f"SiaSamReaTrainer takes no {name}: {why}.")
    if args.batch_eval_metrics:
        raise ValueError("SiaSamReaTrainer takes no batch_eval_metrics: compute_metrics gets all answers together.")
    if args.n_gpu > 1:
        raise ValueError(
            f"One process would drive {args.n_gpu} GPUs, which cannot split videos and questions evenly. Start "
            f"one process a GPU with `torchrun --nproc_per_node {args.n_gpu}`, or choose a GPU with "
            "CUDA_VISIBLE_DEVICES."
        )


def longest_text(args: SiaSamReaTrainingArguments, config: SiaSamReaConfig, processor: SiaSamReaProcessor) -> int:
    """The limit of texts in tokens: `max_text_length`, or the tokenizer's within the text model's positions."""
    positions = config.text_config.max_position_embeddings
    if args.max_text_length is not None and args.max_text_length > positions:
        raise ValueError(
            f"max_text_length is {args.max_text_length}, but the text model has {positions} positions; "
            "give that many at most."
        )
    return args.max_text_length or min(processor.tokenizer.model_max_length, positions)


__all__ = ["SiaSamReaTrainingArguments", "longest_text", "refuse_what_is_not_used"]
