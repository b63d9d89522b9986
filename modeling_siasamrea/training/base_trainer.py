"""The base of both Trainers: data, shares of the optimizer step, checkpoints and evaluation."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, gather_object
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import EvalLoopOutput, TrainOutput, denumpify_detensorize
from transformers.utils import logging

from ..data.batches import EvaluationBatchSampler, TrainingBatchSampler
from ..data.dataset import VideoQuestionDataset
from ..data.questions import VideoQuestion
from ..data.workers import collate_in_shared_memory, naming_dead_workers, worker_settings
from ..evaluation.answers import EvaluationAnswers, sampling_of_passes, score_passes
from ..modeling_siasamrea import check_weights
from .arguments import VideoQuestionTrainingArguments, refuse_what_is_not_used
from .checkpoints import (
    STATE_NAME,
    checkpoint_to_resume,
    find_best_checkpoint,
    order_by_step,
    refuse_other_shards,
    rename_saved_weights,
    run_in_folder,
)
from .finite_steps import FiniteSteps
from .log import SkippedVideos, TrainingLog, mean_loss
from .sharding import (
    choose_sharded_layers,
    is_sharded,
    leave_process_group_at_exit,
    name_as_before_sharding,
    shard_on_cpu,
    start_missing_states,
    whole_weights,
)


logger = logging.get_logger(__name__)


class VideoQuestionTrainer(Trainer):
    r"""
    Base of [`SiaSamReaTrainer`] and [`VideoLanguageTrainer`], which add the loss, the answers and the collator.

    A video that cannot be read never stops a run. Training leaves out its rows and lists them in
    `skipped_videos.jsonl` in the output folder; evaluation counts them as wrong, and reports `<prefix>_unreadable`.

    Args:
        model ([`PreTrainedModel`], or a `PeftModel` of one): The model.
        args ([`VideoQuestionTrainingArguments`]): The training arguments.
        train_dataset ([`VideoQuestionDataset`], *optional*): The training questions.
        eval_dataset ([`VideoQuestionDataset`], or a `dict` of them by name, *optional*): The evaluation questions.
        processing_class ([`ProcessorMixin`]): The processor; it is saved with each checkpoint.
        kwargs: Passed on to [`~transformers.Trainer`]; `compute_metrics` gets the lines of [`prediction_row`] as
            `predictions` and the right answers as `label_ids`.

    Raises:
        `ValueError`: If one process drives several GPUs, or an argument of Transformers' Trainer has no effect here.
    """

    # compute_loss divides by the rows of the whole optimizer step, see `get_batch_samples`.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: VideoQuestionTrainingArguments,
        train_dataset: VideoQuestionDataset | None = None,
        eval_dataset: VideoQuestionDataset | dict[str, VideoQuestionDataset] | None = None,
        processing_class: Any = None,
        **kwargs,
    ):
        refuse_what_is_not_used(model, args, processing_class, kwargs)
        self.method = self.method_of(model, processing_class)
        collator = self.make_collator(model, processing_class, args)
        datasets = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        super().__init__(model, args, collator, processing_class=processing_class, **datasets, **kwargs)
        for dataset in (train_dataset, *(eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset])):
            if dataset is not None:
                self.check_dataset(dataset)
        self.training_log = TrainingLog(self.accelerator, args.device)
        self._skipped = SkippedVideos(args.output_dir, self.is_world_process_zero())
        self.finite_steps = FiniteSteps(self.accelerator)
        self.answers = EvaluationAnswers()
        self._substitutes_count = True
        self._truncated = 0
        self.resumed_from: str | None = None  # a checkpoint
        if isinstance(model, PreTrainedModel):
            model.register_load_state_dict_pre_hook(rename_saved_weights)
        self.add_callback(_Run(self))

    def create_accelerator_and_postprocess(self) -> None:
        """Creates the accelerator, which can shard on CPUs too, and chooses the layers to shard."""
        super().create_accelerator_and_postprocess()
        if self.accelerator.num_processes > 1:
            leave_process_group_at_exit()
        given = self.args.fsdp_plugin_args
        if given is not None and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            shard_on_cpu(self.accelerator, FullyShardedDataParallelPlugin(**given))
            self.is_fsdp_enabled = True
        if self.is_fsdp_enabled:
            choose_sharded_layers(self.accelerator.state.fsdp_plugin, self.model)

    # Defined by the Trainer of each kind of model

    def method_of(self, model: nn.Module, processor: Any) -> Any:
        """Returns the configuration that holds the fields of siamese reasoning; it is saved with each checkpoint."""

    def make_collator(self, model: nn.Module, processor: Any, args: VideoQuestionTrainingArguments) -> Any:
        """Returns the collator that makes batches of the data sets' items."""

    def answer(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        """Notes the model's answers to the questions of an evaluation batch in `self.answers`."""

    @staticmethod
    def count_rows(batch: dict[str, Any]) -> torch.Tensor:
        """Counts the rows with a known answer in a training batch, and all its rows: `(2,)`."""

    def vocabulary(self) -> Iterable[str] | None:
        """Returns the possible answers to an open-ended question; `None` if they are not limited."""
        return None

    def check_training_rows(self, rows: Sequence[VideoQuestion]) -> None:
        """Warns of training rows that a part of the loss cannot use; a `ValueError` if no part can."""

    def check_dataset(self, dataset: VideoQuestionDataset) -> None:
        """Raises a `ValueError` if the model cannot be trained or evaluated on a data set."""
        if not isinstance(dataset, VideoQuestionDataset):
            raise ValueError(
                f"A data set must be a VideoQuestionDataset; got {type(dataset).__name__}. Choose or join its "
                "questions and make a VideoQuestionDataset of them."
            )

    # Data

    def dataloader(self, dataset: VideoQuestionDataset, batch_sampler: Sampler) -> DataLoader:
        """Makes the loader of a data set; the batch sampler deals the batches to the processes."""
        collate = partial(collate_in_shared_memory, self.data_collator)
        loader = DataLoader(dataset, batch_sampler=batch_sampler, collate_fn=collate, **worker_settings(self.args))
        # The batches are dealt out already; accelerate must not do it again.
        return prepare_data_loader(loader, num_processes=1, process_index=0)

    def get_train_dataloader(self) -> DataLoader:
        """Makes batches of one task, see [`TrainingBatchSampler`]."""
        self.check_training_rows(self.train_dataset.questions)
        self._skipped.errors.update(self.train_dataset.check_readable())
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        num_clips = self.method.num_clips if self.method.siamese_clips_trained else 1
        batches = (self._train_batch_size, self.args.questions_per_video, seed, num_clips)
        sampler = TrainingBatchSampler(self.train_dataset, *batches, self.args.world_size, self.args.process_index)
        return self.dataloader(self.train_dataset, sampler)

    def get_eval_dataloader(self, eval_dataset: str | VideoQuestionDataset | None = None) -> DataLoader:
        """Makes batches of one task with all questions about a video together, see [`EvaluationBatchSampler`]."""
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("Evaluation needs an eval_dataset.")
        self.check_dataset(dataset)
        sampler = EvaluationBatchSampler(
            dataset, self.args.eval_batch_size, self.args.world_size, self.args.process_index
        )
        return self.dataloader(dataset, sampler)

    get_test_dataloader = get_eval_dataloader

    # Training

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """
        Trains. A new run starts a new list of skipped rows; a resumed run adds to its list.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint, or `True` for the run's last one. If it is unfinished after a kill or a full disk, the
                last whole one before it is used, with a warning.
            kwargs: Passed on to [`~transformers.Trainer.train`].

        Raises:
            `ValueError`: If there is no train_dataset, or no such checkpoint.
            [`NonFiniteError`]: If a loss, scores, a gradient or weights are not finite numbers.
            [`LoaderWorkerError`]: If a worker process of the data loader died.
            [`OutputFolderError`]: If the output folder cannot be written, or another run is writing into it.
        """
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        self.resumed_from = checkpoint_to_resume(self.args.output_dir, resume_from_checkpoint)
        if self.resumed_from is not None:
            logger.warning(f"The run resumes from {self.resumed_from}.")
            refuse_other_shards(self.resumed_from, self.is_fsdp_enabled, self.args.world_size)
        with run_in_folder(self.args.output_dir, self.args.should_save), naming_dead_workers(self.train_dataset):
            self._skipped.start(resumed=self.resumed_from is not None)
            output = super().train(resume_from_checkpoint=self.resumed_from, **kwargs)
        return output._replace(training_loss=output.metrics["train_loss"])

    def set_initial_training_values(self, args: VideoQuestionTrainingArguments, dataloader: DataLoader) -> tuple:
        """Counts epochs and steps. If the run is finished, there are no epochs, and a warning says so."""
        epochs, *values, max_steps = super().set_initial_training_values(args, dataloader)
        if self.resumed_from is not None:
            taken = TrainerState.load_from_json(str(Path(self.resumed_from) / STATE_NAME)).global_step
            if 0 < max_steps <= taken:
                logger.warning(f"The run in {args.output_dir} is finished, at step {taken}.")
                epochs = 0
        return epochs, *values, max_steps

    def _is_substitute(self, batch: dict[str, Any]) -> bool:
        """Tells whether a batch has substitutes, because none of its own rows could be read."""
        return len(batch["unreadable"]) >= self._train_batch_size

    def counts(self, batch: dict[str, Any]) -> bool:
        """Tells whether the rows of a training batch count, see [`~VideoQuestionTrainer.get_batch_samples`]."""
        return self._substitutes_count or not self._is_substitute(batch)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """
        Reads the batches of an optimizer step and counts, over all processes, their rows with a known answer and all
        their rows: `(2,)`. Substitutes of unreadable rows count only if the step has no other rows.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.zeros(2, 2)  # (asked for or substitutes, known or all)
        for batch in batches:
            counts[int(self._is_substitute(batch))] += self.count_rows(batch)
        counts = self.accelerator.reduce(counts.to(device), reduction="sum")
        self._substitutes_count = counts[0, 1].item() == 0
        return batches, counts[int(self._substitutes_count)]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch=None) -> torch.Tensor:
        """Takes a training step, and notes unreadable rows and cut texts."""
        self._skipped.errors.update(inputs["unreadable"])
        self._truncated += inputs["truncated"]
        return super().training_step(model, inputs, num_items_in_batch)

    def shares(
        self, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""
        Computes the weight of a batch in the optimizer step. Each row weighs the same in any batch and process
        (decision).

        Args:
            inputs (`dict`): The batch.
            num_items_in_batch (`torch.Tensor` of shape `(2,)`, *optional*):
                Known and all rows of the optimizer step, over its batches and all processes. By default the batch is
                the whole step.

        Returns:
            `tuple(torch.Tensor, torch.Tensor)`, both of shape `(2,)`: the number of known and of all rows that count,
            and the factors of the means over them: their share in the step, times the number of processes, because
            gradients are averaged over processes.
        """
        rows = self.count_rows(inputs).to(self.args.device) * self.counts(inputs)
        if num_items_in_batch is None:
            return rows, torch.ones_like(rows, dtype=torch.float)
        return rows, rows / num_items_in_batch.clamp(min=1) * self.args.world_size

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs; adds to a training loss its parts, the state of the reasoning and the number of skipped rows."""
        if "train_loss" in logs:
            logs["train_loss"] = mean_loss(self.state.log_history)  # Transformers' own is of the steps since a resume
        if "loss" in logs or "train_loss" in logs:
            logs |= self.training_log.means()
            skipped = self._skipped.write(self.train_dataset.questions)
            truncated = sum(gather_object([self._truncated]))
            logs |= {"skipped_questions": skipped} if skipped else {}
            logs |= {"truncated_texts": truncated} if truncated else {}
        super().log(logs, start_time)

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model and the method's configuration; refuses weights that are not finite."""
        check_weights(self.model, "the trained model")
        folder = Path(output_dir or self.args.output_dir)
        if self.is_fsdp_enabled:
            name_as_before_sharding(self.model)
        if _internal_call:  # a checkpoint of the run, whose optimizer is saved next
            if self.args.should_save:
                # It says that a checkpoint is whole, which this one is not while it is written over.
                (folder / STATE_NAME).unlink(missing_ok=True)
                order_by_step(self.args.output_dir)
            self.accelerator.wait_for_everyone()
            if self.is_fsdp_enabled:
                start_missing_states(self.optimizer)
        if self.args.should_save:
            # Tasks and answer vocabulary, beside a LoRA adapter too, whose base model may have had others.
            self.method.save_pretrained(folder)
        super().save_model(output_dir, _internal_call)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes the Trainer's card, unless the output folder has one."""
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        # Private: trainer_state.json, which says that a checkpoint is whole, must be written after the random state of
        # the last process, and no hook lies between them.
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    # Evaluation

    def evaluate(
        self,
        eval_dataset: VideoQuestionDataset | dict[str, VideoQuestionDataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluates. In training, a score that is not finite never makes a checkpoint the best."""
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        name = "eval_" + (self.args.metric_for_best_model or "").removeprefix("eval_")
        value = metrics.get(name, math.nan if name.endswith("_loss") else None)  # no row had a loss, or a wrong name
        if self.is_in_train and metric_key_prefix == "eval" and value is not None and not math.isfinite(value):
            logger.warning(f"There is no finite {name} in this evaluation: its step is not the best.")
            metrics[name] = math.nan  # neither greater nor less than another
        return metrics

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> tuple[None, None, None]:
        """Notes the model's answers to a batch; they are scored at the end."""
        self.answers.unreadable.update(inputs["unreadable"])
        self.answers.truncated += inputs["truncated"]
        if self.args.save_frames:
            self.answers.frame_times.update(inputs.get("frame_times", {}))
        if "task" in inputs:  # else not one video of the data set can be read
            with torch.no_grad(), self.compute_loss_context_manager():
                self.answer(model, self._prepare_inputs(inputs))
        return None, None, None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        r"""
        Answers all questions of a data set, in a pass per start of `eval_offsets`, and scores the answers.

        Returns:
            [`~transformers.trainer_utils.EvalLoopOutput`]: `predictions` and `metrics` of [`score_passes`], the right
            answers as `label_ids`, and the metrics of `compute_metrics`.

        Raises:
            [`NonFiniteError`]: If the model's scores of a row are not finite numbers.
            [`LoaderWorkerError`]: If a worker process of the data loader died.
        """
        dataset, passes = dataloader.dataset, []
        # FSDP2 shards a model together with its optimizer: before training, each process has the model whole.
        unsharded = self.is_fsdp_enabled and not is_sharded(self.model)
        if unsharded:
            self.model.to(self.args.device)
            self.is_fsdp_enabled = False
        with naming_dead_workers(dataset), whole_weights(self.model):
            for sampling in sampling_of_passes(self.args.eval_offsets):
                dataset.eval_sampling = sampling
                self.answers = EvaluationAnswers()
                loader = self.get_eval_dataloader(dataset)  # its workers get the data set as it is now
                output = super().evaluation_loop(loader, description, True, ignore_keys, metric_key_prefix)
                self.answers.gather()
                passes.append(self.answers)
        dataset.eval_sampling = {}
        self.is_fsdp_enabled |= unsharded
        predictions, metrics = score_passes(passes, dataset.questions, self.vocabulary())
        answers = [question.answer for question in dataset.questions]
        if self.compute_metrics is not None:
            of_user = self.compute_metrics(EvalPrediction(predictions=predictions, label_ids=answers))
            metrics |= denumpify_detensorize(of_user)
        for name, value in metrics.items():
            output.metrics[f"{metric_key_prefix}_{name.removeprefix(f'{metric_key_prefix}_')}"] = value
        return output._replace(predictions=predictions, label_ids=answers)


class _Run(TrainerCallback):
    """Lets the Trainer act at events of its run."""

    def __init__(self, trainer: VideoQuestionTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: VideoQuestionTrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if self.trainer.resumed_from is not None:
            check_weights(self.trainer.model, self.trainer.resumed_from)
        find_best_checkpoint(state, args.output_dir)

    def on_log(self, args: VideoQuestionTrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if state.best_model_checkpoint is not None:
            find_best_checkpoint(state, args.output_dir)  # somebody may have deleted it

    def on_pre_optimizer_step(self, args: VideoQuestionTrainingArguments, state: TrainerState, *_: Any, **__: Any):
        trainer = self.trainer
        trainer.finite_steps.check(state.global_step + 1, trainer.train_dataset.questions)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # The log of a checkpoint, of an evaluation and of the end has all steps up to there.
        control.should_log |= control.should_save or control.should_evaluate or control.should_training_stop

    on_epoch_end = on_step_end
