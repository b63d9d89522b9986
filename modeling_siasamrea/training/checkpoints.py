"""Which checkpoints of a run are whole: a kill or a full disk leaves the last one unfinished."""

import json
import re
import zipfile
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging


logger = logging.get_logger(__name__)

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model_fsdp.bin",
    "pytorch_model_fsdp_0",
)
OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer_0")


def last_whole_checkpoint(output_dir: str | Path, before: int | None = None) -> str | None:
    r"""
    The newest checkpoint of a run that it can be resumed from; unfinished ones are named in a warning.

    Args:
        output_dir (`str` or `Path`): The run's folder, with folders named `checkpoint-<step>`.
        before (`int`, *optional*): Only checkpoints of earlier steps count.

    Returns:
        `str`, *optional*: Its path; `None` if there is none.
    """
    steps = {}
    for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", folder.name)
        if number is not None and folder.is_dir():
            steps[int(number[1])] = folder
    for step in sorted(steps, reverse=True):
        if before is not None and step >= before:
            continue
        reason = what_is_unfinished(steps[step])
        if reason is None:
            return str(steps[step])
        logger.warning(f"The checkpoint {steps[step]} is unfinished and is passed over: {reason}.")
    return None


def checkpoint_to_resume(output_dir: str | Path, wanted: str | bool | None) -> str | None:
    r"""
    The checkpoint that a run goes on from.

    Args:
        output_dir (`str` or `Path`): The run's folder.
        wanted (`str` or `bool`, *optional*):
            `True`: the run's last whole checkpoint. A path: this one or, if it is unfinished, the last whole one
            before it in its folder. `None` or `False`: none.

    Returns:
        `str`, *optional*: Its path; `None` to start anew, also where every checkpoint of the run is unfinished.

    Raises:
        `ValueError`: If there is no such checkpoint.
    """
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        checkpoint = last_whole_checkpoint(output_dir)
        if checkpoint is None and not list(Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")):
            raise ValueError(f"There is no checkpoint to resume from in {output_dir}.")
        if checkpoint is None:
            logger.warning(f"No checkpoint in {output_dir} is whole: the run starts anew.")
        return checkpoint
    if not Path(wanted).is_dir():
        raise ValueError(f"There is no checkpoint to resume from at {wanted}.")
    reason = what_is_unfinished(Path(wanted))
    if reason is None:
        return str(wanted)
    number = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", Path(wanted).name)
    earlier = last_whole_checkpoint(Path(wanted).parent, before=int(number[1])) if number is not None else None
    if earlier is None:
        raise ValueError(f"The checkpoint {wanted} is unfinished ({reason}), and there is no whole one before it.")
    logger.warning(f"The checkpoint {wanted} is unfinished ({reason}): the run resumes from {earlier}.")
    return earlier


def what_is_unfinished(folder: Path) -> str | None:
    """
    What a checkpoint lacks to be resumed from; `None` if nothing. The Trainer writes `trainer_state.json` last. A
    checkpoint of `save_only_model` has neither optimizer nor scheduler nor random states, and is whole without them.
    """
    names = {path.name for path in folder.iterdir()}
    if "trainer_state.json" not in names:
        return "it has no trainer_state.json, which is written last"
    if names.isdisjoint(WEIGHTS):
        return "it has no weights"
    has_optimizer, has_scheduler = not names.isdisjoint(OPTIMIZERS), "scheduler.pt" in names
    random_states = {name for name in names if re.fullmatch(r"rng_state(_\d+)?\.pth", name)}
    for there, what in (
        (has_optimizer, "optimizer state"),
        (has_scheduler, "scheduler.pt"),
        (random_states, "rng_state"),
    ):
        if not there and (has_optimizer or has_scheduler or random_states):
            return f"it has no {what}"
    if "rng_state.pth" not in random_states and random_states != {
        f"rng_state_{process}.pth" for process in range(len(random_states))
    }:
        return "the random state of a process is missing"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _is_whole(path):
            return f"{path.name} ends early or is damaged"
    if "model.safetensors.index.json" in names:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        missing = sorted(set(index["weight_map"].values()) - names)
        if missing:
            return f"it has no {missing[0]}"
    return None


def _is_whole(path: Path) -> bool:
    """Whether a file of a checkpoint has its end; its values are not read."""
    if path.suffix in (".pt", ".pth", ".bin"):
        return zipfile.is_zipfile(path)  # its directory stands at the end
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".safetensors":
            return _is_whole_safetensors(path)
    except ValueError:
        return False
    return True


def _is_whole_safetensors(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            return False
        tensors = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def load_weights(model: nn.Module, checkpoint: str) -> bool:
    """
    Loads a checkpoint's weights into a model of Transformers, in place; `False` for others, such as a `PeftModel`.

    Some models (DINOv2, many video-language models) are saved under other names than their own. `from_pretrained`
    knows them; the Trainer does not, and would go on with whatever weights were there.
    """
    if not isinstance(model, PreTrainedModel):
        return False
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
    return True


def find_best_checkpoint(state: TrainerState, output_dir: str | Path) -> None:
    """Finds the best checkpoint of a resumed run, whose folder may have been moved; forgets one that is gone."""
    if not state.best_global_step or state.best_model_checkpoint is not None:
        return
    best = Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
    if best.is_dir() and what_is_unfinished(best) is None:
        state.best_model_checkpoint = str(best)
    else:
        logger.warning(f"The best checkpoint so far, {best}, is gone: the best of those to come will be kept.")
        state.best_metric = state.best_global_step = None


__all__ = [
    "checkpoint_to_resume",
    "find_best_checkpoint",
    "last_whole_checkpoint",
    "load_weights",
    "what_is_unfinished",
]
