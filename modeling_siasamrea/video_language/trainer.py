"""The Trainer of a video-language model with siamese reasoning."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..data.dataset import VideoQuestionDataset
from ..data.questions import VideoQuestion
from ..data.unlabelled_rows import refuse_unlabelled
from ..siamese_reasoning import average_affinity
from ..training.arguments import SiaSamReaTrainingArguments
from ..training.trainer import SiaSamReaTrainer
from .data import VideoLanguageDataCollator, in_precision
from .generation import candidate_probabilities, generate_answers, normalize_answer, parse_count
from .modeling import AnswerReasoningOutput, answer_log_likelihoods, reason_over_clips
from .processing import VideoLanguageProcessor
from .settings import VideoLanguageSettings


# Answers and scores of each pass, the loss, and whether all is finite: what [`EvaluationAnswers.note`] takes of a row.
Noted = tuple[Sequence[str | int | float | None], Sequence[float | None], float, bool]


@dataclass
class VideoLanguageTrainingArguments(SiaSamReaTrainingArguments):
    r"""
    Arguments of [`VideoLanguageTrainer`]: those of [`SiaSamReaTrainingArguments`], with defaults for LoRA (decisions).

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 4): Questions of a batch on each device.
        per_device_eval_batch_size (`int`, *optional*, defaults to 4): Questions that fill an evaluation batch.
        num_train_epochs (`float`, *optional*, defaults to 3): Epochs.
        learning_rate (`float`, *optional*, defaults to 1e-4): Peak learning rate.
        adam_beta2 (`float`, *optional*, defaults to 0.999): Second beta of AdamW.
        weight_decay (`float`, *optional*, defaults to 0): Weight decay.
        max_grad_norm (`float`, *optional*, defaults to 1.0): Gradients are clipped to this norm.
        ddp_broadcast_buffers (`bool`, *optional*, defaults to `False`): No buffer changes in training.
    """

    per_device_train_batch_size: int = field(default=4, metadata={"help": "Questions of a batch on each device."})
    per_device_eval_batch_size: int = field(default=4, metadata={"help": "Questions that fill an evaluation batch."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Epochs."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate."})
    adam_beta2: float = field(default=0.999, metadata={"help": "Second beta of AdamW."})
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay; none on biases and norms."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    ddp_broadcast_buffers: bool | None = field(default=False, metadata={"help": "No buffer changes in training."})

    def __post_init__(self):
        super().__post_init__()
        for name in ("image_encoder_learning_rate", "max_text_length", "frame_features_dir"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is for SiaSamRea's own network; a video-language model does not use it.")


class VideoLanguageTrainer(SiaSamReaTrainer):
    r"""
    Trains and evaluates a video-language model on questions about videos, with siamese reasoning over its clips. The
    model stays as it is: what is saved loads with plain Transformers (and peft for an adapter).

    Args:
        model ([`PreTrainedModel`], or a `PeftModel` of one): A model of `AutoModelForImageTextToText`.
        args ([`VideoLanguageTrainingArguments`]): The training arguments.
        train_dataset ([`VideoClipDataset`], *optional*): The training questions.
        eval_dataset ([`VideoClipDataset`], or a `dict` of them by name, *optional*): The evaluation questions.
        processing_class ([`VideoLanguageProcessor`]): The processor with the settings; saved with each checkpoint.
        kwargs: Passed on to [`~transformers.Trainer`].

    Raises:
        `ValueError`: If one process drives several GPUs, or FSDP is to shard clips of different frame counts.
    """

    def __init__(self, model: PreTrainedModel | nn.Module, args: VideoLanguageTrainingArguments, **kwargs):
        super().__init__(model, args, **kwargs)
        if self.is_fsdp_enabled and self.siasamrea_config.frames_per_clip == "adaptive":
            raise ValueError(
                "With FSDP all processes must run the model equally often, and adaptive clips are run by their number "
                "of frames. Set frames_per_clip to a number."
            )

    def _method(self, model: nn.Module, processor: VideoLanguageProcessor) -> VideoLanguageSettings:
        return processor.settings

    def _collator(self, model: nn.Module, processor: VideoLanguageProcessor, args: VideoLanguageTrainingArguments):
        return VideoLanguageDataCollator(processor)

    def _vocabulary(self) -> Iterable[str] | None:
        return None

    def _check_questions(self, dataset: VideoQuestionDataset) -> None:
        """Every question fits: the model has no heads, and no text is cut."""

    @staticmethod
    def _count_rows(batch: dict[str, Any]) -> torch.Tensor:
        return torch.tensor([len(batch["rows"])] * 2)  # there is no vocabulary, so each answer is known

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch on the device, pixels in the model's precision."""
        dtype = self.accelerator.unwrap_model(self.model).dtype
        parts = [in_precision(self._prepare_input(part), dtype) for part in inputs["parts"]]
        return {"rows": inputs["rows"], "task": inputs["task"], "parts": parts}

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Of the prompts and answers of all clips, as Transformers estimates it."""
        model = self.accelerator.unwrap_model(self.model)
        tokens = sum(clip["input_ids"].numel() for part in inputs["parts"] for clip in part["clips"])
        return 6 * tokens * model.num_parameters(exclude_embeddings=True)

    # Training

    def get_train_dataloader(self) -> DataLoader:
        """Batches of one task; a `ValueError` if a row has no answer, for its tokens are what is learned."""
        if self.train_dataset is not None:
            refuse_unlabelled(self.train_dataset.questions)
        return super().get_train_dataloader()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, list[AnswerReasoningOutput]]:
        r"""
        Equation 8: L = L_gt + alpha L_siamese (paper), both means over questions.

        Args:
            model (`nn.Module`): The model, wrapped or not.
            inputs (`dict`): A batch of [`VideoLanguageDataCollator`].
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the parts' outputs too.
            num_items_in_batch (`torch.Tensor` of shape `(2,)`, *optional*):
                Rows of the optimizer step, see [`SiaSamReaTrainer.compute_loss`]. Otherwise the means are over this
                batch.

        Returns:
            `torch.Tensor`, or `tuple(torch.Tensor, list[AnswerReasoningOutput])`.
        """
        output_layer = self.accelerator.unwrap_model(model).get_output_embeddings()
        (_, counted), (_, share) = self._shares(inputs, num_items_in_batch)
        loss, outputs = 0.0, []
        for part in inputs["parts"]:
            output = reason_over_clips(
                model,
                output_layer,
                part["clips"],
                part["answer_ids"],
                self.siasamrea_config,
                self.args.label_smoothing_factor,
            )
            of_batch = len(part["questions"]) / len(inputs["rows"])
            of_part = output.loss if output.loss_siamese is None else output.loss + self._alpha() * output.loss_siamese
            loss = loss + share * of_batch * of_part
            outputs.append(output)
            for name, value in _measures(output).items():
                self._log.note(f"{name}/{inputs['task']}", value, counted * of_batch)
        if num_items_in_batch is not None:
            self._finite_steps.note(self._rows, loss, torch.cat([output.finite for output in outputs]))
        return (loss, outputs) if return_outputs else loss

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
        if "task" in inputs:  # else not one video of the data set can be read
            inputs = self._prepare_inputs(inputs)
            rows = iter(inputs["rows"].tolist())
            answer = self._choose if inputs["task"] == "multiple_choice" else self._write
            with torch.no_grad(), self.compute_loss_context_manager():
                for part in inputs["parts"]:
                    for noted in answer(self.accelerator.unwrap_model(model), part):
                        self._answers.note(next(rows), *noted)
        return torch.zeros((), device=self.args.device), None, None

    def _choose(self, model: nn.Module, part: dict[str, Any]) -> list[Noted]:
        """The most likely candidate of each pass, with its probability among them."""
        scores = torch.stack([candidate_probabilities(model, clip, part["answer_ids"]) for clip in part["clips"]])
        finite = torch.isfinite(scores).all().item()
        right = part["questions"][0].answer
        loss = math.nan if right is None else -scores[0, right].log().item()
        best, answers = scores.max(dim=1)  # (passes,)
        return [(answers.tolist(), best.tolist(), loss, finite)]

    def _write(self, model: nn.Module, part: dict[str, Any]) -> list[Noted]:
        """What the model generates in each pass, and the loss of the right answers where they are known."""
        losses = [math.nan] * len(part["questions"])
        if "clips" in part:
            layer = model.get_output_embeddings()
            log_p, lengths = answer_log_likelihoods(model, layer, part["clips"][0], part["answer_ids"])
            losses = (-log_p / lengths).tolist()
        of_passes = [generate_answers(model, self.processing_class, prompts) for prompts in part["prompts"]]
        noted = []
        for question, loss, *written in zip(part["questions"], losses, *of_passes):
            texts, scores = zip(*written)
            answers = [written_answer(question, text) for text in texts]
            finite = all(map(math.isfinite, scores)) and ("clips" not in part or math.isfinite(loss))
            noted.append((answers, [None] * len(scores) if question.task == "count" else scores, loss, finite))
        return noted


def written_answer(question: VideoQuestion, text: str) -> str | float | None:
    """
    A generated answer as the annotations would write it: an open-ended one that differs from a right answer in case or
    in a full stop alone is spelled like it, and a count is the first number of what was generated (decision).
    """
    if question.task == "count":
        return parse_count(text)
    text = normalize_answer(text)
    return next((right for right in question.right_answers if normalize_answer(right) == text), text)


def _measures(output: AnswerReasoningOutput) -> dict[str, torch.Tensor]:
    """What is logged of a forward pass, see [`SiaSamReaTrainer`]; shares and entropies are means over tokens."""
    measures = {"loss_gt": output.loss}
    anchor, siamese = output.clip_predictions[:, :1], output.clip_predictions[:, 1:]  # (tokens, clips)
    if siamese.shape[1]:
        measures["clip_agreement"] = (siamese == anchor).float().mean()
    if output.soft_labels is not None:
        even = average_affinity(output.affinity.shape[-1], output.affinity.device)
        measures["loss_siamese"] = output.loss_siamese
        measures["affinity_deviation"] = (output.affinity - even).abs().sum(dim=-1).mean()
        measures["soft_label_entropy"] = torch.special.entr(output.soft_labels).sum(dim=1).mean()
        measures["soft_label_accuracy"] = (output.soft_labels.argmax(dim=1) == output.labels).float().mean()
        measures["anchor_accuracy"] = (anchor[:, 0] == output.labels).float().mean()
    return measures


__all__ = ["VideoLanguageTrainer", "VideoLanguageTrainingArguments", "written_answer"]
