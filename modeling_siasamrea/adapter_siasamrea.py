"""Loads a LoRA adapter over the base model that it names."""

import json
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import find_adapter_config_file


def adapter_source(name: Any, adapter_kwargs: dict[str, Any] | None = None) -> str | None:
    r"""
    Finds the adapter in the arguments of `from_pretrained`, for both kinds of model.

    Args:
        name (`str` or `Path`): The folder or hub name.
        adapter_kwargs (`dict`, *optional*): Where an Auto class puts the adapter that it found.

    Returns:
        `str` or `None`: its folder or hub name; `None` if it is no adapter, or has a whole model's weights.
    """
    # An Auto class passes the base model's name instead of the adapter's, whose name it passes in no other way.
    source = (adapter_kwargs or {}).get("_adapter_model_path", name)
    if source is None or any(Path(source).glob("model*.safetensors")):
        return None
    return None if find_adapter_config_file(str(source)) is None else str(source)


def base_of(adapter: str | Path, base_model: str | None = None) -> str:
    r"""
    Finds the model that an adapter is to be loaded over.

    Args:
        adapter (`str` or `Path`): Folder or hub name of the adapter.
        base_model (`str`, *optional*): Taken instead of the model that the adapter names.

    Returns:
        `str`: the folder or hub name that `adapter_config.json` gives. A folder that is gone is looked for by its name
        in the adapter's folder and beside it.

    Raises:
        `OSError`: If the folder is gone.
        `ValueError`: If the adapter names no model.
    """
    if base_model is not None:
        return base_model
    content = Path(find_adapter_config_file(str(adapter))).read_text(encoding="utf-8")
    base = json.loads(content).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"adapter_config.json of {adapter} names the base model {base!r}; give a --base_model.")
    if not Path(base).is_absolute() or Path(base).exists():
        return base
    moved = [folder / Path(base).name for folder in (Path(adapter), Path(adapter).parent)]
    found = next((str(folder) for folder in moved if folder.is_dir()), None)
    if found is None:
        raise OSError(f"The base model of the adapter {adapter} is gone; put it in {moved[0]}, or give --base_model.")
    return found


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
    peft, base = import_module("peft"), base_of(adapter, base_model)
    if config is None or not Path(adapter).is_dir():
        with suppress(OSError):  # it has none: the base's counts
            config = model_class.config_class.from_pretrained(str(adapter))
    # Heads of another shape than the base model's come whole with the adapter.
    model = model_class.from_pretrained(base, *args, config=config, **kwargs | {"ignore_mismatched_sizes": True})
    try:
        return peft.PeftModel.from_pretrained(model, str(adapter))
    except UnpicklingError as error:
        raise ValueError(f"The weights of the adapter {adapter} cannot be read as tensors alone.") from error
