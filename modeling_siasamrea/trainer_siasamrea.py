"""The Trainer of SiaSamRea: equation 8, batches of one task, and evaluation by task and question type."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from .annotations_siasamrea import VideoQuestion
from .configuration_siasamrea import SiaSamReaConfig
from .data_siasamrea import (
    EvaluationBatchSampler,
    SiaSamReaDataCollator,
    TrainingBatchSampler,
    VideoQuestionDataset,
)
from .evaluation_siasamrea import prediction_row, score_predictions
from .loss_siasamrea import ground_truth_loss, siamese_loss
from .modeling_siasamrea import SiaSamReaVideoQuestionAnsweringOutput
from .processors.processing_siasamrea import SiaSamReaProcessor
from .siamese_reasoning import SiameseReasoning, average_affinity


SKIPPED_VIDEOS_NAME = "skipped_videos.jsonl"


@dataclass
class SiaSamReaTrainingArguments(TrainingArguments):
    r"""
    Arguments of [`SiaSamReaTrainer`]: those of [`~transformers.TrainingArguments`], with the defaults of the paper or,
    where it is silent, of ClipBERT's MSRVTT-QA run. A batch size counts questions, not videos.

    The weight of the siamese loss and all else that belongs to the method is in [`SiaSamReaConfig`].

    > Parameters whose defaults differ from `TrainingArguments`

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 16): Paper: 1 on each of 16 GPUs. ClipBERT: 16.
        per_device_eval_batch_size (`int`, *optional*, defaults to 16): Questions that fill an evaluation batch.
        num_train_epochs (`float`, *optional*, defaults to 10): ClipBERT, MSRVTT-QA (15 for TGIF-QA).
        learning_rate (`float`, *optional*, defaults to 5e-5): ClipBERT. Paper: 5e-4.
        warmup_steps (`float`, *optional*, defaults to 0.1): Paper: 10 % of the steps.
        adam_beta2 (`float`, *optional*, defaults to 0.98): ClipBERT.
        weight_decay (`float`, *optional*, defaults to 1e-3): ClipBERT.
        max_grad_norm (`float`, *optional*, defaults to 5.0): ClipBERT.
        logging_steps (`float`, *optional*, defaults to 50): Decision.
        ddp_find_unused_parameters (`bool`, *optional*, defaults to `True`): A batch trains the head of one task.

    > Parameters of this class

    Args:
        image_encoder_learning_rate (`float`, *optional*):
            Peak learning rate of the pretrained image encoder; that of the rest by default (ClipBERT: both 5e-5).
        questions_per_video (`int`, *optional*, defaults to 4):
            The most questions about a video in a training batch; they share its frames.
        max_text_length (`int`, *optional*): Longest text in tokens; the tokenizer's own limit by default.
        alpha_warmup_steps (`float`, *optional*, defaults to 0):
            Steps, or below 1 their share of all, in which the weight of the siamese loss rises from 0 to `alpha`.
    """

    per_device_train_batch_size: int = field(
        default=16,
        metadata={"help": "Questions of a training batch on each device. Paper: 1 on each of 16 GPUs. ClipBERT: 16."},
    )
    per_device_eval_batch_size: int = field(
        default=16,
        metadata={"help": "Questions that fill an evaluation batch; all questions about a video stay in one batch."},
    )
    num_train_epochs: float = field(
        default=10.0, metadata={"help": "Epochs. ClipBERT: 10 for MSRVTT-QA, 15 for TGIF-QA."}
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate. ClipBERT: 5e-5. Paper: 5e-4."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up, or below 1 their share of all. Paper: 0.1."}
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of AdamW. ClipBERT: 0.98."})
    weight_decay: float = field(
        default=1e-3, metadata={"help": "Weight decay; none on biases, LayerNorms, W1 and W2. ClipBERT: 1e-3."}
    )
    max_grad_norm: float = field(default=5.0, metadata={"help": "Gradients are clipped to this norm. ClipBERT: 5.0."})
    logging_steps: float = field(default=50, metadata={"help": "Steps between two logs. Decision: 50."})
    ddp_find_unused_parameters: bool | None = field(
        default=True, metadata={"help": "A batch trains one task's head, so other heads' parameters go unused."}
    )
    image_encoder_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of the pretrained image encoder. Default: learning_rate, as ClipBERT."},
    )
    questions_per_video: int = field(
        default=4,
        metadata={
            "help": "The most questions about a video in a training batch; they share its frames. Decision: 4; "
            "ClipBERT's video runs: 1."
        },
    )
    max_text_length: int | None = field(
        default=None,
        metadata={"help": "Longest text in tokens. ClipBERT: 100, and 25 for TGIF-QA. Default: the tokenizer's."},
    )
    alpha_warmup_steps: float = field(
        default=0.0,
        metadata={"help": "Steps, or below 1 their share of all, in which alpha rises from 0. Decision: 0 (none)."},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.questions_per_video < 1:
            raise ValueError(f"questions_per_video must be 1 or more; got {self.questions_per_video}.")
        if self.alpha_warmup_steps < 0:
            raise ValueError(f"alpha_warmup_steps must be 0 or more; got {self.alpha_warmup_steps}.")


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
        kwargs: Passed on to [`~transformers.Trainer`].

    Raises:
        `ValueError`: If a data set has a task that the model has no head for, or one process drives several GPUs.

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

    # compute_loss gives a mean over the questions of a batch, which Trainer divides by the accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: SiaSamReaTrainingArguments,
        train_dataset: VideoQuestionDataset | None = None,
        eval_dataset: VideoQuestionDataset | dict[str, VideoQuestionDataset] | None = None,
        processing_class: SiaSamReaProcessor | None = None,
        **kwargs,
    ):
        if args.n_gpu > 1:
            raise ValueError(
                f"One process would drive {args.n_gpu} GPUs, which cannot split videos and questions evenly. Start "
                f"one process a GPU with `torchrun --nproc_per_node {args.n_gpu}`, or choose a GPU with "
                "CUDA_VISIBLE_DEVICES."
            )
        self.siasamrea_config = self._method(model, processing_class)
        collator = self._collator(model, args, processing_class)
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        for dataset in (train_dataset, *(eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset])):
            if dataset is not None:
                self._check_tasks(dataset)
        # Sum and weight of each logged quantity since the last log, see `log`.
        self._window: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(2, device=args.device))
        self._skipped: dict[int, str] = {}
        self._skipped_written: set[str] = set()
        self._answers: dict[int, dict[str, Any]] = {}
        self._unreadable: dict[int, str] = {}
        self._truncated = 0
        # W1 and W2 are read inside forward, where they are whole also when FSDP shards them.
        for module in model.modules():
            if isinstance(module, SiameseReasoning):
                module.register_forward_hook(self._note_reasoning_weights)

    def _method(self, model: PreTrainedModel | nn.Module, processor: SiaSamReaProcessor) -> SiaSamReaConfig:
        """What says how to train: the tasks and the fields of siamese reasoning."""
        return model.config

    def _collator(
        self, model: PreTrainedModel | nn.Module, args: SiaSamReaTrainingArguments, processor: SiaSamReaProcessor
    ) -> SiaSamReaDataCollator:
        """What makes batches."""
        return SiaSamReaDataCollator(processor, model.config.label2id, args.max_text_length)

    def _vocabulary(self) -> Iterable[str] | None:
        """The answers the open-ended head can give."""
        return self.siasamrea_config.id2label.values()

    def _check_tasks(self, dataset: VideoQuestionDataset) -> None:
        missing = [task for task in dataset.tasks if task not in self.siasamrea_config.tasks]
        if missing:
            raise ValueError(
                f"The data has questions of the task {' and '.join(map(repr, missing))}, but the model has heads for "
                f"{self.siasamrea_config.tasks} only. Make the model with a head for each task, or leave the rows out."
            )

    # Data

    def _dataloader(self, dataset: VideoQuestionDataset, batch_sampler: Sampler) -> DataLoader:
        loader = DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )
        # The batch sampler has dealt the batches to the processes already; accelerate must not do it again.
        return prepare_data_loader(loader, num_processes=1, process_index=0)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of one task, see [`TrainingBatchSampler`]."""
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        self.train_dataset.check_readable()
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
        self._check_tasks(dataset)
        dataset.check_readable()
        sampler = EvaluationBatchSampler(
            dataset, self.args.eval_batch_size, self.args.world_size, self.args.process_index
        )
        return self._dataloader(dataset, sampler)

    def get_test_dataloader(self, test_dataset: VideoQuestionDataset) -> DataLoader:
        """The batches of [`~SiaSamReaTrainer.get_eval_dataloader`]."""
        return self.get_eval_dataloader(test_dataset)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The model's inputs on the device; frames that travelled as uint8 are normalised there."""
        besides = ("rows", "unreadable", "truncated")
        inputs = super()._prepare_inputs({name: value for name, value in inputs.items() if name not in besides})
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
        """Trains. A run that starts anew also starts a new list of skipped rows, one that resumes goes on with it."""
        if self.is_world_process_zero():
            self._skipped_path.parent.mkdir(parents=True, exist_ok=True)
            if not resume_from_checkpoint:
                self._skipped_path.unlink(missing_ok=True)
            elif self._skipped_path.is_file():
                lines = self._skipped_path.read_text(encoding="utf-8").splitlines()
                self._skipped_written = {json.loads(line)["question_id"] for line in lines}
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    @property
    def _skipped_path(self) -> Path:
        return Path(self.args.output_dir) / SKIPPED_VIDEOS_NAME

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch=None) -> torch.Tensor:
        """A training step; rows whose video could not be read and texts that were cut are noted."""
        self._skipped.update(inputs["unreadable"])
        self._truncated += inputs["truncated"]
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch=None
    ) -> torch.Tensor | tuple[torch.Tensor, SiaSamReaVideoQuestionAnsweringOutput]:
        r"""
        Equation 8: L = L_gt + alpha L_siamese (paper), both means over the questions of the batch.

        Args:
            model (`nn.Module`): The model, wrapped or not.
            inputs (`dict`): The arguments of its forward.
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the model's output too.
            num_items_in_batch: Not used: the loss is a mean over the batch.

        Returns:
            `torch.Tensor`, or `tuple(torch.Tensor, SiaSamReaVideoQuestionAnsweringOutput)`.
        """
        outputs = model(**inputs)
        loss = self._smooth(outputs, inputs["task"])
        if outputs.soft_labels is not None:
            loss_siamese = siamese_loss(outputs.logits, outputs.soft_labels, inputs["task"]).mean()
            loss = loss + self._alpha() * loss_siamese
            self._note(f"loss_siamese/{inputs['task']}", loss_siamese)
        self._note(f"loss_gt/{inputs['task']}", outputs.loss)
        self._note_clips(outputs, inputs["task"])
        if outputs.soft_labels is not None:
            self._note_teacher(outputs, inputs["task"], inputs["labels"])
        return (loss, outputs) if return_outputs else loss

    def _alpha(self) -> float:
        """The weight of the siamese loss at this step, see `alpha_warmup_steps`."""
        warmup = self.args.alpha_warmup_steps
        if warmup < 1:
            warmup *= self.state.max_steps
        return self.siasamrea_config.alpha * (min(1.0, self.state.global_step / warmup) if warmup else 1.0)

    def _smooth(self, outputs: SiaSamReaVideoQuestionAnsweringOutput, task: str) -> torch.Tensor:
        """L_gt, `label_smoothing_factor` of it the cross-entropy with an even label (decision: not for counts)."""
        share = self.args.label_smoothing_factor
        if not share or task == "count":
            return outputs.loss
        even = torch.full_like(outputs.logits, 1 / outputs.logits.shape[1], dtype=torch.float)
        return (1 - share) * outputs.loss + share * siamese_loss(outputs.logits, even, task).mean()

    # What is logged

    def _note(self, name: str, value: torch.Tensor) -> None:
        self._window[name] += torch.stack([value.detach().float(), torch.ones_like(value, dtype=torch.float)])

    def _note_clips(self, outputs: SiaSamReaVideoQuestionAnsweringOutput, task: str) -> None:
        """How far the siamese clips agree with the anchor."""
        anchor, siamese = outputs.clip_logits[:, :1], outputs.clip_logits[:, 1:]  # (questions, clips, classes)
        if not siamese.shape[1]:
            return
        if task == "count":
            self._note("clip_difference/count", (siamese - anchor).abs().mean())
        else:
            self._note(f"clip_agreement/{task}", (siamese.argmax(-1) == anchor.argmax(-1)).float().mean())

    def _note_teacher(self, outputs: SiaSamReaVideoQuestionAnsweringOutput, task: str, labels: torch.Tensor) -> None:
        """Whether the soft label knows more than the anchor that it teaches, and how far the affinity is from even."""
        clips = outputs.affinity.shape[-1]
        even = average_affinity(clips, outputs.affinity.device)
        self._note(f"affinity_deviation/{task}", (outputs.affinity - even).abs().sum(dim=-1).mean())
        if task == "count":
            for name, counts in (("soft_label", outputs.soft_labels), ("anchor", outputs.logits)):
                self._note(f"{name}_error/count", ((counts.squeeze(1) - labels) ** 2).mean())
            return
        entropy = torch.special.entr(outputs.soft_labels).sum(dim=1).mean()
        self._note(f"soft_label_entropy/{task}", entropy)
        for name, scores in (("soft_label", outputs.soft_labels), ("anchor", outputs.logits)):
            self._note(f"{name}_accuracy/{task}", (scores.argmax(dim=1) == labels).float().mean())

    def _note_reasoning_weights(self, module: SiameseReasoning, *_: Any) -> None:
        for name, weights in zip(("w1", "w2"), module.weights(self.args.device)):
            for clip, weight in enumerate(weights):
                self._note(f"{name}/{clip}", weight)

    def _window_means(self) -> dict[str, float]:
        """Means since the last log, over all processes."""
        names = sorted({name for names in gather_object([list(self._window)]) for name in names})
        if not names:
            return {}
        sums = torch.stack([self._window[name] for name in names])  # (names, 2)
        sums = self.accelerator.reduce(sums, reduction="sum")
        self._window.clear()
        return {name: (total / weight).item() for name, (total, weight) in zip(names, sums)}

    def _write_skipped(self) -> int:
        """Appends rows that were newly left out to the list in the output folder; returns how many there are."""
        for skipped in gather_object([self._skipped]):
            self._skipped |= skipped
        new = []
        for row, error in sorted(self._skipped.items()):
            question = self.train_dataset.questions[row]
            if question.question_id not in self._skipped_written:
                new.append({"question_id": question.question_id, "video": question.video, "error": error})
        self._skipped_written.update(line["question_id"] for line in new)
        if new and self.is_world_process_zero():
            with open(self._skipped_path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in new)
        return len(self._skipped)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, and with the training loss its parts, the reasoning's state and the number of rows left out."""
        if "loss" in logs or "train_loss" in logs:
            logs |= self._window_means()
            skipped = self._write_skipped()
            truncated = sum(gather_object([self._truncated]))
            if skipped:
                logs["skipped_questions"] = skipped
            if truncated:
                logs["truncated_texts"] = truncated
        super().log(logs, start_time)

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
        """Notes the model's answer to each question of the batch."""
        rows, unreadable, truncated = inputs["rows"], inputs["unreadable"], inputs["truncated"]
        inputs = self._prepare_inputs(inputs)
        task, labels = inputs["task"], inputs.pop("labels", None)
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(**inputs).logits.float()
        if task == "count":
            answers, scores = logits.squeeze(1), torch.full_like(logits.squeeze(1), float("nan"))
        else:
            scores, answers = logits.softmax(dim=1).max(dim=1)
        losses = torch.full_like(scores, float("nan"))
        if labels is not None:
            losses = ground_truth_loss(logits, labels, task, self.siasamrea_config.multiple_choice_loss)
            if task == "open_ended":
                losses = losses.masked_fill(labels == -100, float("nan"))
        columns = (answers.tolist(), scores.tolist(), losses.tolist())
        for row, answer, score, loss in zip(rows.tolist(), *columns):
            self._answers[row] = {"answer": answer, "score": score, "loss": loss}
        self._unreadable.update(unreadable)
        self._truncated += truncated
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
            its order; `metrics` are the scores of [`score_predictions`], the mean ground-truth loss (of rows that were
            read and whose answer the model knows), the number of rows whose video could not be read and of texts cut.
        """
        self._answers, self._unreadable = {}, {}
        truncated_in_training, self._truncated = self._truncated, 0
        output = super().evaluation_loop(dataloader, description, True, ignore_keys, metric_key_prefix)
        answers: dict[int, dict] = {}
        unreadable: dict[int, str] = {}
        for of_process in gather_object([(self._answers, self._unreadable)]):
            answers |= of_process[0]
            unreadable |= of_process[1]

        questions = dataloader.dataset.questions
        given = [self._answer(question, answers.get(row)) for row, question in enumerate(questions)]
        scores = [answers.get(row, {}).get("score") for row in range(len(questions))]
        output = output._replace(
            predictions=[
                prediction_row(question, prediction, score, unreadable.get(row))
                for row, (question, prediction, score) in enumerate(zip(questions, given, scores))
            ]
        )
        losses = [answer["loss"] for answer in answers.values() if not math.isnan(answer["loss"])]
        metrics = score_predictions(questions, given, self._vocabulary())
        metrics |= {"loss": sum(losses) / len(losses)} if losses else {}
        metrics |= {"questions": len(questions), "unreadable": len(unreadable)}
        metrics |= {"truncated_texts": sum(gather_object([self._truncated]))}
        self._truncated = truncated_in_training
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def _answer(self, question: VideoQuestion, noted: dict[str, Any] | None) -> str | int | float | None:
        """The answer as the annotations would write it; `None` for an unreadable video."""
        if noted is None:
            return None
        return self.siasamrea_config.id2label[noted["answer"]] if question.task == "open_ended" else noted["answer"]


__all__ = ["SKIPPED_VIDEOS_NAME", "SiaSamReaTrainer", "SiaSamReaTrainingArguments"]
