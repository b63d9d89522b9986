"""The Trainer of SiaSamRea: equation 8, batches of one task, and runs that stop at nothing but false numbers."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, gather_object
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput
from transformers.utils import logging

from ..configuration_siasamrea import SiaSamReaConfig
from ..data.batches import EvaluationBatchSampler, SiaSamReaDataCollator, TrainingBatchSampler
from ..data.dataset import VideoQuestionDataset
from ..data.unlabelled_rows import note_unlabelled
from ..data.workers import end_with_launcher, naming_dead_workers, worker_settings
from ..evaluation.answers import EvaluationAnswers, metrics_of_user
from ..loss_siasamrea import siamese_loss, smooth_loss
from ..modeling_siasamrea import SiaSamReaCountBatchNorm, SiaSamReaVideoQuestionAnsweringOutput, check_weights
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..siamese_reasoning import SiameseReasoning
from .arguments import SiaSamReaTrainingArguments, longest_text, refuse_what_is_not_used
from .checkpoints import checkpoint_to_resume, find_best_checkpoint, last_whole_checkpoint, load_weights
from .finite_steps import FiniteSteps, finite_rows
from .frame_features import FrameFeatures
from .log import SKIPPED_VIDEOS_NAME, SkippedVideos, TrainingLog
from .sharding import choose_sharded_layers, leave_process_group_at_exit, shard_on_cpu, start_missing_states


logger = logging.get_logger(__name__)


class SiaSamReaTrainer(Trainer):
    r"""
    Trains and evaluates a [`SiaSamReaForVideoQuestionAnswering`] on questions about videos.

    A row whose video cannot be read never stops a run. In training it is left out and named in `skipped_videos.jsonl`
    in the output folder; in evaluation it counts as wrong, and `<prefix>_unreadable` says how many there were.

    Args:
        model ([`SiaSamReaForVideoQuestionAnswering`], or a `PeftModel` of one): The model.
        args ([`SiaSamReaTrainingArguments`]): The training arguments.
        train_dataset ([`VideoQuestionDataset`], *optional*): The training questions.
        eval_dataset ([`VideoQuestionDataset`], or a `dict` of them by name, *optional*): The evaluation questions.
        processing_class ([`SiaSamReaProcessor`]): The processor; it is saved with each checkpoint.
        kwargs: Passed on to [`~transformers.Trainer`]; `compute_metrics` gets the lines of [`prediction_row`] as
            `predictions` and the right answers as `label_ids`.

    Raises:
        `ValueError`: If a data set has a task that the model has no head for, one process drives several GPUs, or an
            argument of Transformers' Trainer is given that this one would not use.

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

    # compute_loss divides by the rows of the whole optimizer step, see `_get_num_items_in_batch`.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: SiaSamReaTrainingArguments,
        train_dataset: VideoQuestionDataset | None = None,
        eval_dataset: VideoQuestionDataset | dict[str, VideoQuestionDataset] | None = None,
        processing_class: SiaSamReaProcessor | None = None,
        **kwargs,
    ):
        refuse_what_is_not_used(model, args, processing_class, kwargs)
        self.siasamrea_config = self._method(model, processing_class)
        super().__init__(
            model=model,
            args=args,
            data_collator=self._collator(model, processing_class, args),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        for dataset in (train_dataset, *(eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset])):
            if dataset is not None:
                self._check_questions(dataset)
        self._log = TrainingLog(self.accelerator, args.device)
        self._skipped = SkippedVideos(Path(args.output_dir) / SKIPPED_VIDEOS_NAME, self.is_world_process_zero())
        self._finite_steps = FiniteSteps(self.accelerator)
        self._answers = EvaluationAnswers()
        self._frame_features = FrameFeatures(model, args, processing_class.video_processor, self.accelerator)
        self._rows: torch.Tensor | None = None  # of the training batch at hand
        self._counted, self._substitutes_count = True, True
        self._truncated = 0
        for module in model.modules():
            if isinstance(module, SiameseReasoning):
                module.register_forward_hook(self._log.note_reasoning_weights)

    def create_accelerator_and_postprocess(self) -> None:
        """Also lets `--fsdp` shard on CPUs, and chooses what is sharded together."""
        super().create_accelerator_and_postprocess()
        if self.accelerator.num_processes > 1:
            leave_process_group_at_exit()
        if self.args.fsdp_plugin_args is None:
            return
        if self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            shard_on_cpu(self.accelerator, FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args))
            self.is_fsdp_enabled = True
        if self.is_fsdp_enabled:
            choose_sharded_layers(self.accelerator.state.fsdp_plugin, self.model)

    def _method(self, model: nn.Module, processor: SiaSamReaProcessor) -> SiaSamReaConfig:
        """What says how to train: the tasks and the fields of siamese reasoning."""
        model.config.check()
        return model.config

    def _collator(self, model: nn.Module, processor: SiaSamReaProcessor, args: SiaSamReaTrainingArguments) -> Any:
        """What makes batches."""
        return SiaSamReaDataCollator(processor, model.config.label2id, longest_text(args, model.config, processor))

    def _vocabulary(self) -> Iterable[str] | None:
        """The answers the model can give to an open-ended question, where they are limited."""
        return self.siasamrea_config.id2label.values()

    @staticmethod
    def _count_rows(batch: dict[str, Any]) -> torch.Tensor:
        """Rows of a training batch whose answer is known, and all its rows: `(2,)`."""
        labels = batch["labels"]
        return torch.stack([(labels != -100).sum(), torch.tensor(len(labels), device=labels.device)])

    def _check_questions(self, dataset: VideoQuestionDataset) -> None:
        missing = [task for task in dataset.tasks if task not in self.siasamrea_config.tasks]
        if missing:
            raise ValueError(
                f"The data has questions of the task {' and '.join(map(repr, missing))}, but the model has heads for "
                f"{self.siasamrea_config.tasks} only. Make the model with a head for each task, or leave the rows out."
            )
        self.data_collator.check_candidates(dataset.questions)

    # Data

    def _dataloader(self, dataset: VideoQuestionDataset, batch_sampler: Sampler) -> DataLoader:
        self._frame_features.attach(dataset)
        loader = DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=self.data_collator,
            **worker_settings(self.args),
        )
        # The batch sampler has dealt the batches to the processes already; accelerate must not do it again.
        return prepare_data_loader(loader, num_processes=1, process_index=0)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of one task, see [`TrainingBatchSampler`]. Rows without an answer are named, or refused."""
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        note_unlabelled(self.train_dataset.questions, self.siasamrea_config.alpha)
        self._skipped.errors.update(self.train_dataset.check_readable())
        sampler = TrainingBatchSampler(
            self.train_dataset,
            batch_size=self._train_batch_size,
            questions_per_video=self.args.questions_per_video,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            num_clips=self.siasamrea_config.num_clips if self.siasamrea_config.siamese_clips_trained else 1,
            num_processes=self.args.world_size,
            process_index=self.args.process_index,
        )
        return self._dataloader(self.train_dataset, sampler)

    def get_eval_dataloader(self, eval_dataset: str | VideoQuestionDataset | None = None) -> DataLoader:
        """Batches of one task with all questions about a video together, see [`EvaluationBatchSampler`]."""
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("Evaluation needs an eval_dataset.")
        self._check_questions(dataset)
        sampler = EvaluationBatchSampler(
            dataset,
            self.args.eval_batch_size,
            self.args.world_size,
            self.args.process_index,
            eval_offsets=self.args.eval_offsets,
        )
        return self._dataloader(dataset, sampler)

    def get_test_dataloader(self, test_dataset: VideoQuestionDataset) -> DataLoader:
        """The batches of [`~SiaSamReaTrainer.get_eval_dataloader`]."""
        return self.get_eval_dataloader(test_dataset)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The model's inputs on the device; frames that travelled as uint8 are normalised there."""
        besides = ("rows", "unreadable", "truncated")
        inputs = self._frame_features.fill(inputs)
        inputs = super()._prepare_inputs({name: value for name, value in inputs.items() if name not in besides})
        if "frame_features" in inputs:
            return inputs
        frames = inputs["pixel_values_videos"]
        if frames.dtype == torch.uint8:
            frames = self.processing_class.video_processor.normalize_frames(frames)
        model = self.accelerator.unwrap_model(self.model)
        return inputs | {"pixel_values_videos": frames.to(model.dtype)}

    # Training

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Parameters that weight decay applies to: no biases, no LayerNorms (ClipBERT), not W1 and W2 (decision)."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.endswith(("w1_logits", "w2_logits"))]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer, with parameter groups of their own for the image encoder where its learning rate differs."""
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

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """
        Trains. A run that starts anew also starts a new list of skipped rows, one that resumes goes on with it.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint, or `True` for the run's last one. Instead of one that a kill or a full disk left
                unfinished, the run resumes from the last whole one before it, with a warning.
            kwargs: Passed on to [`~transformers.Trainer.train`].

        Raises:
            [`NonFiniteError`]: If a loss, scores, a gradient or weights are not finite numbers.
            [`LoaderWorkerError`]: If a worker process of the data loader died.
        """
        checkpoint = checkpoint_to_resume(self.args.output_dir, resume_from_checkpoint)
        self._skipped.start(resumed=checkpoint is not None)
        if "TORCHELASTIC_RUN_ID" in os.environ:
            end_with_launcher()
        with naming_dead_workers(self.train_dataset):
            return super().train(resume_from_checkpoint=checkpoint, **kwargs)

    def _is_substitute(self, batch: dict[str, Any]) -> bool:
        """Whether a batch has other rows than those asked for, because not one of these could be read."""
        return len(batch["unreadable"]) >= self._train_batch_size

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """
        Rows of an optimizer step whose answer is known, and all its rows: `(2,)`, over its batches and processes.
        Substitutes of unreadable rows count only where the whole step has no others.
        """
        counts = torch.zeros(2, 2)  # (asked for or substitutes, known or all)
        for batch in batch_samples:
            counts[int(self._is_substitute(batch))] += self._count_rows(batch)
        counts = self.accelerator.reduce(counts.to(device), reduction="sum")
        self._substitutes_count = counts[0, 1].item() == 0
        return counts[int(self._substitutes_count)]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch=None) -> torch.Tensor:
        """A training step; rows whose video could not be read and texts that were cut are noted."""
        self._skipped.errors.update(inputs["unreadable"])
        self._truncated += inputs["truncated"]
        self._rows = inputs["rows"]
        self._counted = self._substitutes_count or not self._is_substitute(inputs)
        for module in self.model.modules():
            if isinstance(module, SiaSamReaCountBatchNorm):
                module.counted = self._counted
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, SiaSamReaVideoQuestionAnsweringOutput]:
        r"""
        Equation 8: L = L_gt + alpha L_siamese (paper). L_gt is a mean over the questions whose answer is known,
        L_siamese over all.

        Args:
            model (`nn.Module`): The model, wrapped or not.
            inputs (`dict`): The arguments of its forward.
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the model's output too.
            num_items_in_batch (`torch.Tensor` of shape `(2,)`, *optional*):
                Known and all rows of the optimizer step, over its accumulated batches and all processes. The loss is
                then this batch's part of their mean, times the number of processes, over which gradients are averaged:
                a row weighs the same wherever it is (decision), though the counting head's batch norm sees one batch
                at a time, that of all processes. Otherwise the means are over this batch.

        Returns:
            `torch.Tensor`, or `tuple(torch.Tensor, SiaSamReaVideoQuestionAnsweringOutput)`.
        """
        outputs = model(**inputs)
        task, labels = inputs["task"], inputs["labels"]
        rows, shares = self._shares(inputs, num_items_in_batch)
        smoothing = self.args.label_smoothing_factor
        loss = shares[0] * smooth_loss(outputs.loss, outputs.logits, labels, task, smoothing)
        if outputs.soft_labels is not None:
            loss_siamese = siamese_loss(outputs.logits, outputs.soft_labels, task).mean()
            loss = loss + shares[1] * self._alpha() * loss_siamese
            self._log.note(f"loss_siamese/{task}", loss_siamese, rows[1])
        self._log.note(f"loss_gt/{task}", outputs.loss, rows[0])
        self._log.note_outputs(outputs, task, labels, rows)
        if num_items_in_batch is not None:
            self._finite_steps.note(self._rows, loss, finite_rows(outputs, labels))
        return (loss, outputs) if return_outputs else loss

    def _shares(self, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Of known and of all rows: those of this batch that count, and their share in the optimizer step; `(2,)`."""
        rows = self._count_rows(inputs).to(self.args.device) * self._counted
        if num_items_in_batch is None:
            return rows, torch.ones_like(rows, dtype=torch.float)
        return rows, rows / num_items_in_batch.clamp(min=1) * self.args.world_size

    def _alpha(self) -> float:
        """The weight of the siamese loss at this step, see `alpha_warmup_steps`."""
        warmup = self.args.alpha_warmup_steps
        if warmup < 1:
            warmup *= self.state.max_steps
        return self.siasamrea_config.alpha * (min(1.0, self.state.global_step / warmup) if warmup else 1.0)

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | float | None = None) -> Any:
        """The gradient's norm, between the step's batches and the optimizer: the place to stop at false numbers."""
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._finite_steps.check(grad_norm, self.state.global_step + 1, self.train_dataset.questions)
        return grad_norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, and with the training loss its parts, the reasoning's state and the number of rows left out."""
        if "loss" in logs or "train_loss" in logs:
            logs |= self._log.means()
            skipped = self._skipped.write(self.train_dataset.questions)
            truncated = sum(gather_object([self._truncated]))
            if skipped:
                logs["skipped_questions"] = skipped
            if truncated:
                logs["truncated_texts"] = truncated
        super().log(logs, start_time)

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model; weights that are not finite numbers are never written."""
        check_weights(self.model, "the trained model")
        super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # FSDP2 gives the model a class of its own, whose code would travel with the checkpoint.
        sharded = type(self.model)
        if self.is_fsdp_enabled and sharded.__name__.startswith("FSDP"):
            self.model.__class__ = sharded.__bases__[1]
        super()._save(output_dir, state_dict)
        self.model.__class__ = sharded
        # Tasks and answer vocabulary, beside a LoRA adapter too, whose base model may have had others.
        self.siasamrea_config.save_pretrained(output_dir or self.args.output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # `trainer_state.json` is written last and says that a checkpoint is whole: an old one must not say it of a
        # checkpoint that is being written over.
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            (folder / "trainer_state.json").unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled:
            start_missing_states(self.optimizer)
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        model = self.model if model is None else model
        if self.is_fsdp_enabled or not load_weights(model, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        check_weights(model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if sharded or not load_weights(self.model, self.state.best_model_checkpoint):
            super()._load_best_model()

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        trained = super()._init_training_state(*args, **kwargs)
        find_best_checkpoint(self.state, self.args.output_dir)
        return trained

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        name = "eval_" + (self.args.metric_for_best_model or "").removeprefix("eval_")
        if name in metrics and not math.isfinite(metrics[name]):
            logger.warning(f"{name} is {metrics[name]}: this step is not the best, whatever came before.")
            return False
        return super()._determine_best_metric(metrics, trial)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes the Trainer's card, unless the run has written its own into the output folder."""
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    # Evaluation

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """Notes the model's answers to each question of the batch: from each anchor start, then to shuffled frames."""
        self._answers.unreadable.update(inputs["unreadable"])
        self._answers.truncated += inputs["truncated"]
        if "task" not in inputs:  # not one video of the data set can be read
            return torch.zeros((), device=self.args.device), None, None
        logits = []
        inputs = self._frame_features.fill(inputs)
        name = "frame_features" if "frame_features" in inputs else "pixel_values_videos"
        frames = inputs[name]  # (videos, passes * clips, frames, channels, height, width)
        for of_pass in frames.split(frames.shape[1] // self._answers.passes, dim=1):
            batch = self._prepare_inputs(inputs | {name: of_pass})
            labels = batch.pop("labels")
            with torch.no_grad(), self.compute_loss_context_manager():
                logits.append(model(**batch).logits.float())
        logits = torch.stack(logits, dim=1)  # (questions, passes, classes)
        self._answers.note_logits(inputs["rows"], batch["task"], logits, labels, self.siasamrea_config)
        return logits.new_zeros(()), None, None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        r"""
        Answers all questions of a data set and scores them.

        Returns:
            [`~transformers.trainer_utils.EvalLoopOutput`]: `predictions` is one dictionary a row of the data set, in
            its order, see [`EvaluationAnswers.predictions`]; `label_ids` the right answers (`None` where a row has
            none); `metrics` are the scores of [`score_predictions`] and [`score_consistency`], the mean ground-truth
            loss (of rows that were read and whose answer the model knows), the number of rows whose video could not be
            read and of texts cut, and what `compute_metrics` makes of `predictions` and `label_ids`.

        Raises:
            [`NonFiniteError`]: If the model's scores of a row are not finite numbers.
            [`LoaderWorkerError`]: If a worker process of the data loader died.
        """
        self._answers = EvaluationAnswers(self.args.eval_offsets)
        dataset = dataloader.dataset
        # FSDP2 shards a model together with its optimizer: before training, each process has the model whole.
        unsharded = self.is_fsdp_enabled and not self.accelerator._models
        if unsharded:
            self._move_model_to_device(self.model, self.args.device)
            self.is_fsdp_enabled = False
        with naming_dead_workers(dataset):
            output = super().evaluation_loop(dataloader, description, True, ignore_keys, metric_key_prefix)
        self.is_fsdp_enabled |= unsharded
        self._answers.gather()
        predictions = self._answers.predictions(dataset.questions)
        answers = [question.answer for question in dataset.questions]
        metrics = self._answers.metrics(dataset.questions, self._vocabulary())
        if self.compute_metrics is not None:
            metrics |= metrics_of_user(self.compute_metrics, predictions, answers)
        for name, value in metrics.items():
            output.metrics[f"{metric_key_prefix}_{name.removeprefix(f'{metric_key_prefix}_')}"] = value
        return output._replace(predictions=predictions, label_ids=answers)


__all__ = [
    "SKIPPED_VIDEOS_NAME",
    "SiaSamReaTrainer",
    "SiaSamReaTrainingArguments",
    "last_whole_checkpoint",
]
