"""Loads a video-language model and its processor from the hub, a folder, or an adapter over either."""

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from ..adapter_siasamrea import adapter_source, base_of
from ..configuration_siasamrea import SiaSamReaConfig
from ..training.start import explained
from .processing import VideoLanguageProcessor
from .settings import optional_file


def is_video_language_model(name_or_path: str | Path) -> bool:
    r"""
    Returns whether a folder or hub name is that of a video-language model, or an adapter of one, rather than a
    SiaSamRea checkpoint.

    Raises:
        `OSError`: If it is neither.
    """
    if adapter_source(name_or_path) and optional_file(name_or_path, "config.json") is None:
        return True  # those of SiaSamRea's own network have a configuration
    return SiaSamReaConfig.get_config_dict(str(name_or_path))[0].get("model_type") != "siasamrea"


def load_video_language_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype = "auto",
    trainable: bool = False,
    base_model: str | None = None,
    settings_file: str | Path | None = None,
    **settings,
) -> tuple[PreTrainedModel, VideoLanguageProcessor]:
    r"""
    Loads a model of `AutoModelForImageTextToText`, or an adapter over one, with its processor and settings.

    Args:
        name_or_path (`str` or `Path`): Folder or hub name.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): Precision; the checkpoint's own by default.
        trainable (`bool`, *optional*, defaults to `False`): Whether an adapter's layers go on training.
        base_model (`str`, *optional*): Base model of an adapter, instead of the one that it names.
        settings_file (`str` or `Path`, *optional*): Settings, instead of those beside the model.
        settings: Fields of [`VideoLanguageSettings`], over those saved beside the model.

    Returns:
        `tuple(PreTrainedModel, VideoLanguageProcessor)`: the model (a `PeftModel` for an adapter).

    Raises:
        `ValueError`: If it cannot be loaded, takes no videos, or a setting does not exist.
    """
    with explained(f"The video-language model {name_or_path} cannot be loaded", name_or_path):
        if not is_video_language_model(name_or_path):
            raise ValueError("it is a SiaSamRea checkpoint, which `siasamrea train` trains.")
        adapter = adapter_source(name_or_path) is not None
        if not adapter and base_model is not None:
            raise ValueError(f"it is no adapter, so {base_model} cannot be its --base_model.")
        base = base_of(name_or_path, base_model) if adapter else None
        processor = VideoLanguageProcessor.from_pretrained(name_or_path, base, settings_file, **settings)
        model = AutoModelForImageTextToText.from_pretrained(base or name_or_path, dtype=dtype)
        if base is None:
            return model, processor
        from peft import PeftModel  # an optional dependency

        return PeftModel.from_pretrained(model, str(name_or_path), is_trainable=trainable), processor
