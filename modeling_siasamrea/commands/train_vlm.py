"""
Fine-tunes and evaluates a video-language model, such as Qwen3-VL, with siamese reasoning: LoRA, or all its weights.

    siasamrea train-vlm qwen3_vl_2b --train_file train.jsonl --validation_file validation.jsonl --videos videos
    siasamrea train-vlm config.json --method '{"alpha": 0}'

Rows, benchmarks, skip lists, resuming and reports are those of `siasamrea train`. The command line goes over the JSON
file; JSON objects are merged key by key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel

from ..data.unlabelled_rows import refuse_unlabelled
from ..training.lora import add_lora
from ..video_language.data import VideoClipDataset
from ..video_language.loading import load_video_language_model
from ..video_language.processing import VideoLanguageProcessor
from ..video_language.trainer import VideoLanguageTrainer, VideoLanguageTrainingArguments
from .arguments import DataArguments, JsonObject, read_arguments
from .run import Report, run, start_run
from .train import what_to_do


# The arguments that `--help` lists.
COMMON = ("model_name_or_path", "train_file", "validation_file", "test_file", "video_folder", "output_dir")
COMMON += ("method", "learning_rate", "max_steps", "per_device_train_batch_size", "lora_rank", "full_training")


@dataclass
class VideoLanguageModelArguments:
    """
    The model, how questions are put to it, and what of it trains.

    Args:
        model_name_or_path (`str`):
            A model of AutoModelForImageTextToText that takes videos, or an adapter: name or folder.
        base_model (`str`, *optional*): Base model of an adapter, instead of the one that it names.
        settings (`str`, *optional*): A settings file, siamese_reasoning.json, instead of the one beside the model.
        method (`dict`, *optional*): Fields of VideoLanguageSettings as JSON; over those of the settings file.
        family_video_processor (`dict`, *optional*):
            Settings of the family's own video processor as JSON, such as its size.
        full_training (`bool`, *optional*, defaults to `False`): Whether all weights are trained, in float32.
        lora_rank (`int`, *optional*, defaults to 16): Rank of the LoRA layers, if not all weights are trained.
        lora_target_modules (`list[str]`, *optional*):
            Endings of the names of linear layers that get one. Default: all of the language model.
    """

    model_name_or_path: str | None = None
    base_model: str | None = None
    settings: str | None = None
    method: dict | str | None = field(default=None, metadata={"action": JsonObject})
    family_video_processor: dict | str | None = field(default=None, metadata={"action": JsonObject})
    full_training: bool = False
    lora_rank: int = 16
    lora_target_modules: list[str] | None = None

    def __post_init__(self):
        if self.model_name_or_path is None:
            raise ValueError("Which model? Give --model, such as Qwen/Qwen3-VL-2B-Instruct.")
        if self.lora_rank < 1:
            raise ValueError(f"--lora_rank must be 1 or more; got {self.lora_rank}.")
        if self.full_training and self.lora_target_modules:
            raise ValueError("Give --full_training or --lora_target_modules, not both.")


def prepare_model(
    arguments: VideoLanguageModelArguments, trains: bool
) -> tuple[PreTrainedModel, VideoLanguageProcessor]:
    """Loads the model, with LoRA layers if they are to be trained and it has none, and its processor."""
    name_or_path = arguments.model_name_or_path
    if Path(name_or_path).is_dir():
        name_or_path = str(Path(name_or_path).resolve())  # an adapter names it, and may be loaded from elsewhere
    whole = trains and arguments.full_training
    settings = dict(arguments.method or {})
    if arguments.family_video_processor:
        settings["family_video_processor"] = arguments.family_video_processor
    dtype = "float32" if whole else "auto"
    model, processor = load_video_language_model(
        name_or_path, dtype, trains, arguments.base_model, arguments.settings, **settings
    )
    adapted = not isinstance(model, PreTrainedModel)
    if whole and adapted:
        raise ValueError(f"{name_or_path} is an adapter; --full_training needs a model, such as the one it is over.")
    if trains and not whole and not adapted:
        model = add_lora(model, arguments.lora_rank, arguments.lora_target_modules)
    return model, processor


def train(
    arguments: VideoLanguageModelArguments, data: DataArguments, training: VideoLanguageTrainingArguments
) -> Report:
    r"""
    Runs what the arguments ask for.

    Args:
        arguments ([`VideoLanguageModelArguments`]): The model.
        data ([`DataArguments`]): The questions.
        training ([`VideoLanguageTrainingArguments`]): What is done with them.

    Returns:
        `dict[str, dict]`: The content of metrics.json.

    Raises:
        `ValueError`: If arguments, rows and model do not fit each other, or a training row has no answer.
    """
    rows = start_run(data, training)
    if training.do_train:
        refuse_unlabelled(rows.train)
    model, processor = prepare_model(arguments, training.do_train)
    name = arguments.model_name_or_path
    return run(VideoLanguageTrainer, VideoClipDataset, model, processor, training, rows.train, rows, data, [name])


CLASSES = (VideoLanguageModelArguments, DataArguments, VideoLanguageTrainingArguments)


def parse_arguments(argv: Sequence[str] | None = None) -> tuple:
    """Reads the arguments of a run: an instance of each of `CLASSES`."""
    return read_arguments(argv, CLASSES, __doc__, COMMON, what_to_do)


def main(argv: Sequence[str] | None = None) -> Report:
    """Command line; returns the content of metrics.json."""
    return train(*parse_arguments(argv))
