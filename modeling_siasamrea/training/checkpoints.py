"""The checkpoints of a run: which are whole, which one the run resumes from, and one run per folder."""

import errno
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging


logger = logging.get_logger(__name__)

STATE_NAME = "trainer_state.json"  # of a checkpoint; the Trainer writes it last
LOCK_NAME = "_run.lock"  # of the output folder; what begins with _ is not pushed to the hub
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
NOT_WRITTEN += (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


class OutputFolderError(ValueError):
    """Raised when the output folder of a run cannot be made or written, or another run is writing into it."""


@contextmanager
def run_in_folder(folder: str | Path, is_main_process: bool) -> Iterator[None]:
    r"""
    A context in which a run writes into its output folder. The main process keeps other runs out.

    Args:
        folder (`str` or `Path`): The output folder; made if it is not there.
        is_main_process (`bool`): Whether this process locks the folder.

    Raises:
        [`OutputFolderError`]: If another run has the folder, or it cannot be made or written.
    """
    lock = FileLock(Path(folder) / LOCK_NAME, blocking=False)
    try:
        if is_main_process:
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise OutputFolderError(f"Another run is writing into {folder}; give this one another output_dir.") from None
    except NotImplementedError:
        pass  # a file system without locks
    except OSError as error:
        raise OutputFolderError(f"The output folder {folder} cannot be written: {error.strerror}.") from None
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_not_written(error):
            raise
        raise OutputFolderError(
            f"The run cannot write into {folder} ({' '.join(str(error).split())[:200]}). Its last whole checkpoint is "
            "as it was."
        ) from error
    finally:
        lock.release()


def is_not_written(error: Exception) -> bool:
    """Tells whether a file could not be written; safetensors and torch have errors of their own for a full disk."""
    if isinstance(error, OSError):
        return error.errno in NOT_WRITTEN
    return re.search(r"No space left|os error (28|27|122)\b|PytorchStreamWriter failed", str(error)) is not None


def checkpoints_of(output_dir: str | Path) -> dict[int, Path]:
    """Lists the folders `checkpoint-<step>` of a run by their step, the newest last."""
    steps = {}
    for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", folder.name)
        if number is not None and folder.is_dir():
            steps[int(number[1])] = folder
    return dict(sorted(steps.items()))


def order_by_step(output_dir: str | Path) -> None:
    """
    Makes later checkpoints the younger ones. Transformers deletes the oldest by their time of change, so after the
    clock was set back it would delete each new one.
    """
    folders = list(checkpoints_of(output_dir).values())
    times = [folder.stat().st_mtime for folder in folders]
    now = time.time()
    if times != sorted(times) or max(times, default=0) > now:
        for age, folder in enumerate(reversed(folders), start=1):
            os.utime(folder, (now - 2 * age, now - 2 * age))


def last_whole_checkpoint(output_dir: str | Path, before: float = math.inf) -> str | None:
    r"""
    Finds the newest checkpoint that a run can be resumed from; unfinished ones are named in a warning.

    Args:
        output_dir (`str` or `Path`): The run's folder, with folders named `checkpoint-<step>`.
        before (`int`, *optional*): Only checkpoints of earlier steps count.

    Returns:
        `str`, *optional*: Its path; `None` if there is none.
    """
    for step, folder in reversed(checkpoints_of(output_dir).items()):
        if step < before and is_whole(folder):
            return str(folder)
        if step < before:
            logger.warning(f"The unfinished checkpoint {folder} is left out: it has no whole {STATE_NAME}.")
    return None


def checkpoint_to_resume(output_dir: str | Path, wanted: str | bool | None) -> str | None:
    r"""
    Finds the checkpoint that a run resumes from.

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
    if not wanted:
        return None
    if wanted is True:
        if not checkpoints_of(output_dir):
            raise ValueError(f"There is no checkpoint to resume from in {output_dir}.")
        return last_whole_checkpoint(output_dir)
    if is_whole(Path(wanted)):
        return str(wanted)
    later = [step for step, folder in checkpoints_of(Path(wanted).parent).items() if folder == Path(wanted)]
    earlier = last_whole_checkpoint(Path(wanted).parent, before=later[0] + 1) if later else None
    if earlier is None:
        raise ValueError(f"The checkpoint {wanted} is missing or unfinished, and there is no whole one before it.")
    return earlier


def is_whole(checkpoint: Path) -> bool:
    """Tells whether a checkpoint was written to its end, also one of FSDP or DeepSpeed."""
    try:
        return "global_step" in json.loads((checkpoint / STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def refuse_other_shards(checkpoint: str, fsdp: bool, processes: int) -> None:
    """Raises a `ValueError` if a run cannot load a checkpoint's optimizer, because it shards it otherwise."""
    saved = "without" if fsdp else "with"
    if (Path(checkpoint) / ("optimizer.pt" if fsdp else "optimizer.bin")).is_file():
        raise ValueError(f"The checkpoint {checkpoint} was saved {saved} FSDP, and its run must resume {saved} it.")
    parts = len(list(Path(checkpoint).glob("global_step*/*zero_pp_rank_*_optim_states.pt")))
    if parts not in (0, processes):
        raise ValueError(f"{checkpoint} is DeepSpeed's for {parts} processes; it cannot resume in {processes}.")


def rename_saved_weights(model: PreTrainedModel, state_dict: dict[str, torch.Tensor], *_: Any) -> None:
    """
    Renames saved weights as the model names them, in place: a hook before `load_state_dict`.

    Some models (DINOv2, many video-language models) are saved under other names than their own, or with tied weights
    left out. `from_pretrained` knows that; the Trainer, which calls `load_state_dict`, would skip such weights.
    """
    if state_dict.keys() != model.state_dict().keys():
        loaded, info = type(model).from_pretrained(
            None, config=model.config, state_dict=dict(state_dict), dtype=model.dtype, output_loading_info=True
        )
        state_dict.clear()
        state_dict.update({n: v for n, v in loaded.state_dict().items() if n not in info["missing_keys"]})


def find_best_checkpoint(state: TrainerState, output_dir: str | Path) -> None:
    """Finds the best checkpoint of a run, whose folder may have been moved; forgets one that is gone."""
    if not state.best_global_step:
        return
    # Transformers has forgotten the path already if the folder was moved.
    name = Path(state.best_model_checkpoint or f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}").name
    best = Path(output_dir) / name
    if is_whole(best):
        state.best_model_checkpoint = str(best)
    else:
        logger.warning(f"The best checkpoint so far, {best}, is gone: the best of those to come will be kept.")
        state.best_metric = state.best_global_step = state.best_model_checkpoint = None
