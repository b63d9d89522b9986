"""
Fine-tunes and evaluates SiaSamRea for video question answering.

    siasamrea train quickstart
    siasamrea train own_videos --train_file train.jsonl --validation_file validation.jsonl --videos videos
    siasamrea train config.json --learning_rate 1e-4 --model_config '{"alpha": 0}'

The command line goes over the JSON file; JSON objects are merged key by key. Rows that are given as --validation_file
or --test_file are evaluated when training ends. A run that is started again goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ..conversion.for_cpus import speed_up_on_cpu
from ..data.dataset import VideoQuestionDataset
from ..data.unlabelled_rows import leave_out_unlabelled
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..training.arguments import SiaSamReaTrainingArguments
from ..training.lora import add_lora
from ..training.start import build_model, known_answers, load_model
from ..training.trainer import SiaSamReaTrainer
from .arguments import DataArguments, JsonObject, read_arguments
from .run import Report, run, start_run
from .run_rows import Rows


# The arguments that `--help` lists.
COMMON = ("train_file", "validation_file", "test_file", "video_folder", "model_name_or_path", "vision_model")
COMMON += ("text_model", "output_dir", "learning_rate", "max_steps", "per_device_train_batch_size", "lora_rank")
COMMON += ("model_config", "video_processor")


@dataclass
class ModelArguments:
    """
    What is trained or evaluated: a checkpoint, two pretrained encoders, or (with neither) random weights.

    Args:
        model_name_or_path (`str`, *optional*): A SiaSamRea checkpoint or LoRA adapter: hub name or folder.
        base_model (`str`, *optional*): Base model of an adapter, instead of the one that it names.
        vision_model (`str`, *optional*): A pretrained image encoder, with --text_model: hub name or folder.
        text_model (`str`, *optional*): A pretrained BERT and its tokenizer: hub name or folder.
        model_config (`dict`, *optional*):
            Fields of SiaSamReaConfig, JSON; over a checkpoint's, but not its vision_config and text_config.
        video_processor (`dict`, *optional*): Settings of SiaSamReaVideoProcessor as JSON; over a checkpoint's.
        vocabulary_size (`int`, *optional*, defaults to 1000):
            Commonest training answers that an open-ended head chooses from; 0 for all. Paper: 1000.
        new_vocabulary (`bool`, *optional*, defaults to `False`):
            Whether the training rows' answers replace a checkpoint's, with a new head.
        lora_rank (`int`, *optional*): Train LoRA layers of this rank only.
        lora_target_modules (`list[str]`, *optional*):
            Endings of the names of linear layers that get one. Default: query value.
    """

    model_name_or_path: str | None = None
    base_model: str | None = None
    vision_model: str | None = None
    text_model: str | None = None
    model_config: dict | str | None = field(default=None, metadata={"action": JsonObject})
    video_processor: dict | str | None = field(default=None, metadata={"action": JsonObject})
    vocabulary_size: int = 1000
    new_vocabulary: bool = False
    lora_rank: int | None = None
    lora_target_modules: list[str] | None = None

    def __post_init__(self):
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"--lora_rank must be 1 or more; got {self.lora_rank}.")
        if self.model_name_or_path is not None and (self.vision_model or self.text_model):
            raise ValueError("Give --model_name_or_path or two encoders, not both.")
        if (self.vision_model is None) != (self.text_model is None):
            raise ValueError("Give --vision_model and --text_model together: the model is built from both encoders.")
        if self.vocabulary_size < 0:
            raise ValueError(f"--vocabulary_size must be 0 (all answers) or more; got {self.vocabulary_size}.")


def prepare_model(arguments: ModelArguments, rows: Rows, output_dir: str) -> tuple[nn.Module, SiaSamReaProcessor]:
    """Builds or loads the model for training rows, if any, with LoRA layers if asked for, and its processor."""
    settings = {"config": arguments.model_config, "video_processor": arguments.video_processor}
    settings["vocabulary_size"] = arguments.vocabulary_size or None
    if arguments.model_name_or_path is None:
        model, processor = build_model(rows, arguments.vision_model, arguments.text_model, **settings)
    else:
        settings |= {"new_vocabulary": arguments.new_vocabulary, "base_model": arguments.base_model}
        model, processor = load_model(arguments.model_name_or_path, rows, **settings)
    if arguments.lora_rank is not None:
        if arguments.model_name_or_path is None:
            # An adapter is loaded over the weights it was trained with, so they must lie somewhere.
            model.name_or_path = str(Path(output_dir).resolve() / "base_model")
            model.save_pretrained(model.name_or_path)
        model = add_lora(model, arguments.lora_rank, arguments.lora_target_modules)
    speed_up_on_cpu(model)
    return model, processor


def train(arguments: ModelArguments, data: DataArguments, training: SiaSamReaTrainingArguments) -> Report:
    r"""
    Runs what the arguments ask for.

    Args:
        arguments ([`ModelArguments`]): The model.
        data ([`DataArguments`]): The questions.
        training ([`SiaSamReaTrainingArguments`]): What is done with them.

    Returns:
        `dict[str, dict]`: The content of metrics.json.

    Raises:
        `ValueError`: If arguments, rows and model do not fit each other.
    """
    rows = start_run(data, training)
    model, processor = prepare_model(arguments, rows.train if training.do_train else [], training.output_dir)
    learned = []
    if training.do_train:
        learned = leave_out_unlabelled(known_answers(rows.train, model.config), model.config.alpha)
    started_from = [arguments.model_name_or_path, arguments.vision_model, arguments.text_model]
    return run(SiaSamReaTrainer, VideoQuestionDataset, model, processor, training, learned, rows, data, started_from)


def what_to_do(given: set[str]) -> dict[str, bool]:
    """Trains and evaluates the rows that are given, if no argument says what to do; without a model, always trains."""
    if given & {"do_train", "do_eval", "do_predict"}:
        return {} if given & {"do_train", "model_name_or_path"} else {"do_train": True}
    return {"do_train": True, "do_eval": "validation_file" in given, "do_predict": "test_file" in given}


CLASSES = (ModelArguments, DataArguments, SiaSamReaTrainingArguments)


def parse_arguments(argv: Sequence[str] | None = None) -> tuple:
    """Reads the arguments of a run: an instance of each of `CLASSES`."""
    return read_arguments(argv, CLASSES, __doc__, COMMON, what_to_do)


def main(argv: Sequence[str] | None = None) -> Report:
    """Command line; returns the content of metrics.json."""
    return train(*parse_arguments(argv))
