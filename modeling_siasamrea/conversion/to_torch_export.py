"""Exports the inference path as a program of `torch.export`."""

from pathlib import Path

import torch
from torch import nn

from ..modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from ..processors.processing_siasamrea import SiaSamReaProcessor


PROGRAM_NAME = "model.pt2"


class _Inference(nn.Module):
    """The forward pass that is exported: tensors in, the logits of one task out."""

    def __init__(self, model: SiaSamReaForVideoQuestionAnswering, task: str):
        super().__init__()
        self.model, self.task = model, task

    def forward(  # one by one, because a program that is loaded has no free keyword arguments
        self,
        pixel_values_videos: torch.Tensor,
        frame_mask: torch.Tensor,
        video_index: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> torch.Tensor:
        return self.model(
            pixel_values_videos=pixel_values_videos,
            frame_mask=frame_mask,
            video_index=video_index,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            task=self.task,
        ).logits


def export_model(
    model: SiaSamReaForVideoQuestionAnswering, processor: SiaSamReaProcessor, task: str | None = None
) -> torch.export.ExportedProgram:
    r"""
    Exports the forward pass of inference, with one clip per video or as many as the processor gives at evaluation.

    Args:
        model ([`SiaSamReaForVideoQuestionAnswering`]): The model; it is put into evaluation mode.
        processor ([`SiaSamReaProcessor`]): Its processor, which fixes the size of a frame and the number of clips.
        task (`str`, *optional*): The head that answers; may be left out where the model has one.

    Returns:
        `torch.export.ExportedProgram`: takes, by these names, `pixel_values_videos`
        `(videos, clips, frames, 3, height, width)`, `frame_mask` `(videos, frames)`, `video_index` `(questions,)`,
        `input_ids`, `attention_mask` and `token_type_ids` `(questions, length)` or `(questions, candidates, length)`,
        as the processor makes them, and gives the logits `(questions, classes)`. The numbers of videos, frames,
        questions, candidates and tokens are free; the size of a frame and the number of clips are fixed.

    Raises:
        `ValueError`: If the model has no head for the task, or several and none is named.
    """
    if task is None and len(model.config.tasks) == 1:
        task = model.config.tasks[0]
    if task not in model.config.tasks:
        raise ValueError(f"task must be one of {', '.join(model.config.tasks)}, whose head is exported; got {task}.")
    choices = task == "multiple_choice"
    free = torch.export.Dim.DYNAMIC
    text = {0: free, 1: free, 2: free} if choices else {0: free, 1: free}
    shapes = {
        "pixel_values_videos": {0: free, 2: free},
        "frame_mask": {0: free, 1: free},
        "video_index": {0: free},
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), text),
    }
    # Three questions about two grey videos: a free dimension of size 1 would become a constant.
    inputs = processor(
        videos=[torch.full((frames, 3, 48, 64), 127, dtype=torch.uint8) for frames in (7, 9)],
        text=["what is it ?", "what is the man doing ?", "what ?"],
        candidates=[["a", "b", "c", "d", "e"]] * 3 if choices else None,
        video_index=[0, 1, 1],
        return_tensors="pt",
    )
    with torch.no_grad():
        return torch.export.export(_Inference(model.eval(), task), (), dict(inputs), dynamic_shapes=shapes)


def save_exported_model(
    folder: str | Path,
    model: SiaSamReaForVideoQuestionAnswering,
    processor: SiaSamReaProcessor,
    task: str | None = None,
) -> Path:
    r"""
    Writes the program of [`export_model`] into a folder, with the processor that makes its inputs and the
    configuration that names its answers (`id2label`).

    Args:
        folder (`str` or `Path`): Where the files go.
        model ([`SiaSamReaForVideoQuestionAnswering`]): The model.
        processor ([`SiaSamReaProcessor`]): Its processor.
        task (`str`, *optional*): The head that answers; may be left out where the model has one.

    Returns:
        `Path`: the program's file, `model.pt2`.

    Raises:
        `ValueError`: If the model has no head for the task, or several and none is named.

    Example:

    ```python
    >>> save_exported_model("exported", model, processor, task="open_ended")
    >>> program = torch.export.load("exported/model.pt2").module()
    >>> inputs = processor(videos="cat.mp4", text="what does the cat do?", video_index=[0], return_tensors="pt")
    >>> model.config.id2label[int(program(**inputs).argmax())]
    "sleep"
    ```"""
    program = export_model(model, processor, task)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    torch.export.save(program, folder / PROGRAM_NAME)
    return folder / PROGRAM_NAME
