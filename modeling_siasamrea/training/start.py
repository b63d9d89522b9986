"""Builds or loads the model of a run, from a checkpoint, an adapter, two pretrained encoders or random weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging

from ..adapter_siasamrea import adapter_source
from ..configuration_siasamrea import ENCODERS, WRITTEN, SiaSamReaConfig, did_you_mean
from ..data.questions import VideoQuestion
from ..data.unlabelled_rows import refuse_heads_without_answers
from ..data.vocabulary import answer_vocabulary, build_tokenizer
from ..modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor, wrong_setting


logger = logging.get_logger(__name__)

# A folder or hub name that is none, files or packages that are missing, fields and weights that do not fit.
NOT_LOADED = (OSError, HFValidationError, ImportError, SafetensorError, RuntimeError, ValueError)
OF_VIDEOS = "The settings of the video processor are wrong"


class ExplainedError(ValueError):
    """Raised by [`explained`], and left as it is by another one around it."""


@contextmanager
def explained(what: str, name_or_path: str | Path | None = None) -> Iterator[None]:
    r"""
    Turns errors about files and fields into a `ValueError` that says what could not be done.

    Args:
        what (`str`): What could not be done.
        name_or_path (`str` or `Path`, *optional*): What is loaded; the hub is not asked for a missing path.
    """
    try:
        if name_or_path is not None:
            refuse_missing_folder(Path(name_or_path))
        yield
    except ExplainedError:
        raise
    except StrictDataclassError as error:
        raise ExplainedError(f"{what}: {wrong_setting(error)}") from error
    except NOT_LOADED as error:
        raise ExplainedError(f"{what}: {' '.join(str(error).split())}") from error


def refuse_missing_folder(path: Path) -> None:
    """Raises an error for a missing path that cannot be a hub name, or whose folder exists."""
    folder = path.parent
    is_local = path.is_absolute() or len(path.parts) > 2 or (len(path.parts) == 2 and folder.is_dir())
    if is_local and not path.exists():
        beside = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        did_you_mean(f"the folder {folder}", [path.name], beside, cutoff=0.6)
        raise OSError("there is no such folder.")


def build_model(
    rows: Sequence[VideoQuestion],
    vision_model: str | None = None,
    text_model: str | None = None,
    config: dict[str, Any] | None = None,
    video_processor: dict[str, Any] | None = None,
    vocabulary_size: int | None = 1000,
) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor]:
    r"""
    Builds a new model with a head for each task of the training rows, and its processor.

    Args:
        rows (`Sequence[VideoQuestion]`): The training rows, which give tasks and answer vocabulary.
        vision_model (`str`, *optional*): Hub name or folder of a pretrained image encoder; needs `text_model`.
        text_model (`str`, *optional*):
            Hub name or folder of a pretrained BERT and its tokenizer. By default the weights are random, and the
            tokenizer is made from the words of the rows.
        config (`dict`, *optional*):
            Fields of [`SiaSamReaConfig`]; `vision_config` and `text_config` change fields of pretrained encoders.
        video_processor (`dict`, *optional*): Settings of [`SiaSamReaVideoProcessor`], over the image encoder's.
        vocabulary_size (`int`, *optional*, defaults to 1000): Answers in the vocabulary; `None` for all. Paper: 1000.

    Returns:
        `tuple(SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor)`

    Raises:
        `ValueError`: If there are no rows, or no answers of a task; if an encoder is missing or cannot be loaded.
    """
    if not rows:
        raise ValueError("Evaluation needs a trained model: give --model_name_or_path, or train one with --do_train.")
    refuse_heads_without_answers(rows, tasks_of(rows))
    fields = count_fields(rows) | dict(config or {}) | {"tasks": tasks_of(rows)}
    fields |= vocabulary_fields(rows, vocabulary_size)
    settings = dict(video_processor or {})
    with explained("The settings of the model are wrong"):  # not those of the encoders, which are loaded below
        SiaSamReaConfig(**{name: value for name, value in fields.items() if not name.endswith("_config")})
    if vision_model is not None:
        with explained(f"The encoders {vision_model} and {text_model} cannot be loaded"):
            model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(vision_model, text_model, **fields)
            tokenizer = AutoTokenizer.from_pretrained(text_model)
        make_video_processor = partial(SiaSamReaVideoProcessor.from_image_encoder, vision_model)
    else:
        logger.warning("The model starts from random weights, its tokenizer from the words of the training questions.")
        tokenizer = build_tokenizer(rows)
        with explained("The model cannot be built"):
            for name, default in ENCODERS.items():
                refuse_unknown_fields(name, fields.get(name) or {}, default["model_type"])
            text_config = {"model_type": "bert", **fields.pop("text_config", {}), "vocab_size": len(tokenizer)}
            model = SiaSamReaForVideoQuestionAnswering(SiaSamReaConfig(text_config=text_config, **fields))
        make_video_processor = SiaSamReaVideoProcessor
    start_counts_at_mean(model, rows)
    if settings.setdefault("num_clips", model.config.num_clips) != model.config.num_clips:
        raise ValueError(
            f"num_clips of the video processor must be the model's, {model.config.num_clips}; got "
            f"{settings['num_clips']}. Give it to the model alone."
        )
    with explained(OF_VIDEOS):
        return model, SiaSamReaProcessor(make_video_processor(**settings), tokenizer)


def refuse_unknown_fields(name: str, encoder: dict[str, Any] | PreTrainedConfig, model_type: str) -> None:
    """Raises a `ValueError` if the configuration of a new encoder names a model type or fields that do not exist."""
    if isinstance(encoder, PreTrainedConfig):
        return
    if not isinstance(encoder, dict):
        raise ValueError(f"{name} must be a dictionary; got {encoder!r:.100}.")
    model_type = encoder.get("model_type", model_type)
    did_you_mean("The list of model types", [model_type], list(CONFIG_MAPPING))
    known = AutoConfig.for_model(model_type)
    unknown = (field for field in encoder if field not in WRITTEN and not hasattr(known, field))
    did_you_mean(f"The {model_type!r} model", unknown, list(known.to_dict()))


def load_model(
    name_or_path: str,
    rows: Sequence[VideoQuestion] = (),
    config: dict[str, Any] | None = None,
    video_processor: dict[str, Any] | None = None,
    vocabulary_size: int | None = 1000,
    new_vocabulary: bool = False,
    base_model: str | None = None,
) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor]:
    r"""
    Loads a SiaSamRea checkpoint or LoRA adapter, and its processor. Adds new heads for training rows of other tasks,
    or for a new vocabulary.

    Args:
        name_or_path (`str`): Hub name or folder.
        rows (`Sequence[VideoQuestion]`, *optional*): The training rows; none if it only answers.
        config (`dict`, *optional*):
            Fields of [`SiaSamReaConfig`] over the checkpoint's, except `vision_config` and `text_config`.
        video_processor (`dict`, *optional*): Settings of [`SiaSamReaVideoProcessor`] over the checkpoint's.
        vocabulary_size (`int`, *optional*, defaults to 1000): Answers of a new vocabulary; `None` for all.
        new_vocabulary (`bool`, *optional*, defaults to `False`):
            Whether the rows' answers replace the checkpoint's. If it has no open-ended head, they always do.
        base_model (`str`, *optional*): Base model of an adapter, instead of the one that it names.

    Returns:
        `tuple(SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor)`: the model, with its adapter merged.

    Raises:
        `ValueError`: If it cannot be loaded, is an adapter and has training rows, or no row of a new head has an
            answer.
    """
    with explained(f"The checkpoint {name_or_path} cannot be loaded", name_or_path):
        model_type = SiaSamReaConfig.get_config_dict(name_or_path)[0].get("model_type")
        if model_type != SiaSamReaConfig.model_type:
            raise ValueError(
                f"it is not a SiaSamRea checkpoint: its model type is {model_type!r}. For video-language models "
                "there is `siasamrea train-vlm`."
            )
        old = SiaSamReaConfig.from_pretrained(name_or_path)
        processor = SiaSamReaProcessor.from_pretrained(name_or_path)
    with explained(OF_VIDEOS):
        if video_processor:
            processor.video_processor = SiaSamReaVideoProcessor.from_pretrained(name_or_path, **video_processor)
    if adapter_source(name_or_path) is not None:
        if rows:
            raise ValueError(f"{name_or_path} is a LoRA adapter, which only answers. Train its base model anew.")
        if config:
            logger.warning(f"The LoRA adapter {name_or_path} keeps its own configuration; the one given is not used.")
        with explained(f"The weights of {name_or_path} cannot be loaded"):
            model = SiaSamReaForVideoQuestionAnswering.from_pretrained(name_or_path, base_model=base_model)
        return model, processor

    new_vocabulary = new_vocabulary or "open_ended" not in old.tasks
    fields = count_fields(rows) | dict(config or {})
    if rows:
        fields["tasks"] = old.tasks + [task for task in tasks_of(rows) if task not in old.tasks]
    if new_vocabulary:
        fields |= vocabulary_fields(rows, vocabulary_size)
    encoders = {"vision_config": old.vision_config, "text_config": old.text_config}
    if unused := [name for name in encoders if name in fields]:
        logger.warning(
            f"The checkpoint {name_or_path} keeps its own {' and '.join(unused)}; what is given is not used."
        )
    with explained(f"{name_or_path} cannot be configured anew"):
        new = SiaSamReaConfig.from_dict({**old.to_dict(), **fields, **encoders})
    new_heads = [task for task in new.tasks if task not in old.tasks]
    refuse_heads_without_answers(rows, new_heads + ["open_ended"] * new_vocabulary)
    if new_heads:
        logger.warning(f"The checkpoint has no head for {', '.join(new_heads)}: training starts new ones.")
    new_clips = new.num_clips != old.num_clips
    if new_clips and min(new.alpha, old.alpha) > 0:
        logger.warning(f"The checkpoint has num_clips={old.num_clips}, not {new.num_clips}: W1 and W2 start anew.")
    report = logging.get_logger("transformers.modeling_utils")  # of weights that start anew, here on purpose
    level = report.level
    report.setLevel(logging.ERROR if new_heads or new_vocabulary or new_clips else level)
    try:
        with explained(f"The weights of {name_or_path} cannot be loaded"):
            model = SiaSamReaForVideoQuestionAnswering.from_pretrained(
                name_or_path, config=new, base_model=base_model, ignore_mismatched_sizes=new_vocabulary or new_clips
            )
    finally:
        report.setLevel(level)
    if "count" in new_heads:
        start_counts_at_mean(model, rows)
    processor.video_processor.num_clips = model.config.num_clips  # the configuration has the say
    return model, processor


def tasks_of(rows: Sequence[VideoQuestion]) -> list[str]:
    """Lists the tasks of the rows, in order of appearance."""
    return list(dict.fromkeys(row.task for row in rows))


def vocabulary_fields(rows: Sequence[VideoQuestion], size: int | None) -> dict[str, dict]:
    """Makes the configuration's fields of the answer vocabulary; none if no row is open-ended."""
    labels = dict(enumerate(answer_vocabulary(rows, size)))
    return {"id2label": labels, "label2id": {answer: label for label, answer in labels.items()}} if labels else {}


def count_fields(rows: Sequence[VideoQuestion]) -> dict[str, list[int] | None]:
    """Makes the configuration's range of counts, that of the rows' benchmark; nothing if no row is a count."""
    ranges = {row.count_range for row in rows if row.task == "count"}
    clipped = len(ranges) == 1 and None not in ranges
    return {"count_range": list(ranges.pop()) if clipped else None} if ranges else {}


def known_answers(rows: Sequence[VideoQuestion], config: SiaSamReaConfig) -> list[VideoQuestion]:
    r"""
    Keeps the training rows that the model can learn from. An open-ended answer must be in the vocabulary; rows without
    an answer stay.

    Raises:
        `ValueError`: If no answer is left.
    """
    known = config.label2id.keys()

    def can_be_learned(row: VideoQuestion) -> bool:
        return row.task != "open_ended" or row.answer is None or not known.isdisjoint(row.right_answers)

    kept = list(filter(can_be_learned, rows))
    if len(kept) < len(rows):
        logger.warning(f"Training rows left out, whose answers are outside the vocabulary: {len(rows) - len(kept)}.")
    if len(kept) < len(rows) and all(row.answer is None for row in kept):
        raise ValueError("No training answer is in the checkpoint's vocabulary; --new_vocabulary makes a new one.")
    return kept


def start_counts_at_mean(model: SiaSamReaForVideoQuestionAnswering, rows: Sequence[VideoQuestion]) -> None:
    """Sets the bias of a new counting head to the mean training count, because it learns slowly from 0 (decision)."""
    counts = [row.answer for row in rows if row.task == "count" and row.answer is not None]
    if counts:
        nn.init.constant_(model.heads["count"][-1].bias, sum(counts) / len(counts))
