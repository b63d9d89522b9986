"""The Trainer of SiaSamRea's own network: equation 8, learning rates and answers."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from ..configuration_siasamrea import SiaSamReaConfig
from ..data.batches import SiaSamReaDataCollator
from ..data.dataset import VideoQuestionDataset
from ..data.questions import VideoQuestion
from ..data.unlabelled_rows import note_unlabelled
from ..evaluation.answers import digest_frames
from ..loss_siasamrea import siamese_loss, smooth_loss
from ..modeling_siasamrea import SiaSamReaCountBatchNorm, SiaSamReaVideoQuestionAnsweringOutput
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..siamese_reasoning import SiameseReasoning
from .arguments import SiaSamReaTrainingArguments, longest_text
from .base_trainer import VideoQuestionTrainer
from .finite_steps import finite_rows
from .frame_features import FrameFeatures


class SiaSamReaTrainer(VideoQuestionTrainer):
    r"""
    Trains and evaluates a [`SiaSamReaForVideoQuestionAnswering`] on questions about videos, see
    [`VideoQuestionTrainer`].

    Args:
        model ([`SiaSamReaForVideoQuestionAnswering`], or a `PeftModel` of one): The model.
        args ([`SiaSamReaTrainingArguments`]): The training arguments.
        kwargs: Arguments of [`VideoQuestionTrainer`]: `train_dataset`, `eval_dataset`, `processing_class` and others.

    Raises:
        `ValueError`: If a data set has a task that the model has no head for.

    Example:

    ```python
    >>> trainer = SiaSamReaTrainer(
    ...     model=model,
    ...     args=SiaSamReaTrainingArguments(output_dir="my-model"),
    ...     train_dataset=VideoQuestionDataset(load_video_questions("train.jsonl", "videos"), processor),
    ...     eval_dataset=VideoQuestionDataset(load_video_questions("val.jsonl", "videos"), processor),
    ...     processing_class=processor,
    ... )
    >>> trainer.train()
    >>> trainer.evaluate()["eval_accuracy"]
    ```
    """

    def __init__(self, model: nn.Module, args: SiaSamReaTrainingArguments, **kwargs):
        super().__init__(model, args, **kwargs)
        self._frame_features = FrameFeatures(model, args, self.processing_class.video_processor, self.accelerator)
        for module in model.modules():
            if isinstance(module, SiameseReasoning):
                module.register_forward_hook(self.training_log.note_reasoning_weights)

    def method_of(self, model: nn.Module, processor: SiaSamReaProcessor) -> SiaSamReaConfig:
        """Returns the model's configuration."""
        model.config.validate()
        return model.config

    def make_collator(
        self, model: nn.Module, processor: SiaSamReaProcessor, args: SiaSamReaTrainingArguments
    ) -> SiaSamReaDataCollator:
        """Returns the collator, with the model's vocabulary and its limit of texts."""
        return SiaSamReaDataCollator(processor, model.config.label2id, longest_text(args, model.config, processor))

    def check_dataset(self, dataset: VideoQuestionDataset) -> None:
        """Raises a `ValueError` if the model has no head for a task, or a candidate is longer than the limit."""
        super().check_dataset(dataset)
        missing = [task for task in dataset.tasks if task not in self.method.tasks]
        if missing:
            raise ValueError(
                f"The data has questions of the task {' and '.join(map(repr, missing))}, but the model has heads for "
                f"{self.method.tasks} only. Make the model with a head for each task, or leave the rows out."
            )
        self.data_collator.check_candidates(dataset.questions)

    def dataloader(self, dataset: VideoQuestionDataset, batch_sampler: Sampler) -> DataLoader:
        """Makes the loader of a data set, with stored features of frames if there are any."""
        self._frame_features.attach(dataset)
        return super().dataloader(dataset, batch_sampler)

    def check_training_rows(self, rows: Sequence[VideoQuestion]) -> None:
        """Warns of rows without an answer; raises a `ValueError` if nothing learns from them."""
        note_unlabelled(rows, self.method.alpha)

    def forward_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments of forward in a batch; normalises uint8 frames on the device."""
        besides = ("rows", "unreadable", "truncated", "frame_times")
        inputs = self._frame_features.fill({name: value for name, value in inputs.items() if name not in besides})
        if "frame_features" in inputs:
            return inputs
        frames = inputs["pixel_values_videos"]  # (videos, clips, frames, 3, height, width)
        if frames.dtype == torch.uint8:
            frames = self.processing_class.video_processor.normalize_frames(frames)
        return inputs | {"pixel_values_videos": frames.to(self.accelerator.unwrap_model(self.model).dtype)}

    # Training

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names the parameters that weight decay applies to: no biases and LayerNorms (ClipBERT), no W1 and W2."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.endswith(("w1_logits", "w2_logits"))]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Makes the optimizer; puts the image encoder into groups of its own if it has its own learning rate."""
        already_there = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        rate = self.args.image_encoder_learning_rate
        if rate is None or already_there:
            return optimizer
        named = (self.model if model is None else model).named_parameters()
        of_encoder = {id(parameter) for name, parameter in named if "image_encoder.encoder." in name}
        groups = []
        for group in optimizer.param_groups:
            encoder = [parameter for parameter in group["params"] if id(parameter) in of_encoder]
            rest = [parameter for parameter in group["params"] if id(parameter) not in of_encoder]
            groups += [{**group, "params": rest}, {**group, "params": encoder, "lr": rate}]
        optimizer.param_groups = [group for group in groups if group["params"]]
        return optimizer

    @staticmethod
    def count_rows(batch: dict[str, Any]) -> torch.Tensor:
        """Counts the rows with a known answer in a training batch, and all its rows: `(2,)`."""
        labels = batch["labels"]
        return torch.stack([(labels != -100).sum(), torch.tensor(len(labels), device=labels.device)])

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, SiaSamReaVideoQuestionAnsweringOutput]:
        r"""
        Computes equation 8: L = L_gt + alpha L_siamese (paper). L_gt is a mean over the questions with a known answer,
        L_siamese over all.

        Args:
            model (`nn.Module`): The model, wrapped or not.
            inputs (`dict`): A batch of [`SiaSamReaDataCollator`].
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the model's output too.
            num_items_in_batch (`torch.Tensor` of shape `(2,)`, *optional*):
                Known and all rows of the optimizer step. The loss is then the part of this batch in their means, see
                [`~VideoQuestionTrainer.shares`]; the counting head's batch norm still sees one batch of all
                processes at a time.

        Returns:
            `torch.Tensor`, or `tuple(torch.Tensor, SiaSamReaVideoQuestionAnsweringOutput)`.
        """
        for module in self.model.modules():
            if isinstance(module, SiaSamReaCountBatchNorm):
                module.counted = self.counts(inputs)
        outputs = model(**self.forward_inputs(inputs))
        task, labels = inputs["task"], inputs["labels"]
        rows, shares = self.shares(inputs, num_items_in_batch)  # of known and of all questions

        loss_gt = smooth_loss(outputs.loss, outputs.logits, labels, task, self.args.label_smoothing_factor)
        loss = shares[0] * loss_gt
        if outputs.soft_labels is not None:
            loss_siamese = siamese_loss(outputs.logits, outputs.soft_labels, task).mean()
            loss = loss + shares[1] * self.method.alpha * loss_siamese
            self.training_log.note(f"loss_siamese/{task}", loss_siamese, rows[1])

        self.training_log.note(f"loss_gt/{task}", outputs.loss, rows[0])
        self.training_log.note_outputs(outputs, task, labels, rows)
        if num_items_in_batch is not None:
            self.finite_steps.note(inputs["rows"], loss, finite_rows(outputs, labels))
        return (loss, outputs) if return_outputs else loss

    # Evaluation

    def vocabulary(self) -> Iterable[str]:
        """Returns the answers of the open-ended head."""
        return self.method.id2label.values()

    def answer(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        """Notes the answers of an evaluation batch."""
        batch = self.forward_inputs(inputs)
        labels = batch.pop("labels")
        frames = batch.get("frame_features", batch.get("pixel_values_videos"))  # (videos, clips, frames, ...)
        shown = [digest_frames(of_video) for of_video in frames]
        logits = model(**batch).logits.float()  # (questions, classes)
        shown = [shown[video] for video in batch["video_index"]]
        self.answers.note_logits(inputs["rows"], batch["task"], logits, labels, self.method, shown)
