"""A LoRA adapter over the base model that it names."""

from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from transformers import PreTrainedModel


def adapter_source(name: Any, adapter_kwargs: dict[str, Any] | None = None) -> str | None:
    r"""
    The adapter among what `from_pretrained` was given.

    Args:
        name (`str` or `Path`): The folder or hub name.
        adapter_kwargs (`dict`, *optional*): Where an Auto class puts the adapter that it found.

    Returns:
        `str` or `None`: its folder or hub name; `None` if a checkpoint is to be loaded, with weights of its own.
    """
    if name is None:
        return None
    # An Auto class gives the base model's name instead of the adapter's, and tells the adapter's in no public way.
    source = (adapter_kwargs or {}).get("_adapter_model_path", name)
    folder = Path(source)
    if folder.is_dir():
        found = (folder / "adapter_config.json").is_file() and not any(folder.glob("model*.safetensors"))
    else:
        found = source != name
    return str(source) if found else None


def load_adapter(
    model_class: type[PreTrainedModel],
    adapter: str | Path,
    *args,
    config: Any = None,
    base_model: str | None = None,
    **kwargs,
) -> Any:
    r"""
    Loads the weights an adapter was trained over, and the adapter over them.

    Args:
        model_class (`type`): The model's class.
        adapter (`str` or `Path`):
            Folder or hub name: `adapter_config.json`, which names the base model, the adapter's weights, and the
            `config.json` with the tasks and the answer vocabulary it was trained for, if they are not the base's.
        config (*optional*): Taken instead of a folder's `config.json`.
        base_model (`str`, *optional*): The model that the adapter is over, instead of the one that it names.
        kwargs: Arguments of `from_pretrained`.

    Returns:
        `PeftModel`

    Raises:
        `OSError`: If the base model's folder is gone.
        `ValueError`: If the adapter names no base model, or its weights are not tensors alone.
    """
    # By name: Transformers asks for what the files of a checkpoint import, and most have no use for peft.
    peft = import_module("peft")
    base = base_model or peft.PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    if not isinstance(base, str) or not base:
        raise ValueError(f"The adapter {adapter} must name its base model in adapter_config.json; it names {base!r}.")
    if Path(base).is_absolute() and not Path(base).exists():
        moved = [folder / Path(base).name for folder in (Path(adapter), Path(adapter).parent)]
        base = next((str(folder) for folder in moved if folder.is_dir()), None)
        if base is None:
            raise OSError(f"The weights that the adapter {adapter} was trained over are gone; put them in {moved[0]}.")
    if config is None or not Path(adapter).is_dir():
        try:
            config = model_class.config_class.from_pretrained(str(adapter))
        except OSError:  # it has none: the base's counts
            pass
    # Heads of another shape than the base model's come whole with the adapter.
    model = model_class.from_pretrained(base, *args, config=config, **kwargs | {"ignore_mismatched_sizes": True})
    try:
        return peft.PeftModel.from_pretrained(model, str(adapter))
    except UnpicklingError as error:
        raise ValueError(f"The weights of the adapter {adapter} cannot be read as tensors alone.") from error


__all__ = ["adapter_source", "load_adapter"]
