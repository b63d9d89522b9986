"""The Trainer of a video-language model with siamese reasoning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..data.dataset import VideoQuestionDataset
from ..data.questions import VideoQuestion
from ..data.unlabelled_rows import refuse_unlabelled
from ..evaluation.answers import Noted, digest_frames
from ..siamese_reasoning import average_affinity
from ..training.arguments import VideoQuestionTrainingArguments
from ..training.base_trainer import VideoQuestionTrainer
from .data import VideoLanguageDataCollator
from .generation import ROWS_AT_A_TIME, answer_questions, normalize_answer, parse_count
from .modeling import AnswerReasoningOutput, reason_over_clips
from .processing import VideoLanguageProcessor
from .settings import VideoLanguageSettings
from .teacher import note_rows_without_span


@dataclass
class VideoLanguageTrainingArguments(VideoQuestionTrainingArguments):
    r"""
    Arguments of [`VideoLanguageTrainer`]: those of [`VideoQuestionTrainingArguments`], with defaults for LoRA
    (decisions).

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 4): Questions of a batch on each device.
        per_device_eval_batch_size (`int`, *optional*, defaults to 4): Questions that fill an evaluation batch.
        num_train_epochs (`float`, *optional*, defaults to 3): Epochs.
        learning_rate (`float`, *optional*, defaults to 1e-4): Peak learning rate.
        max_grad_norm (`float`, *optional*, defaults to 1.0): Gradients are clipped to this norm.
        ddp_broadcast_buffers (`bool`, *optional*, defaults to `False`): No buffer changes in training.
    """

    per_device_train_batch_size: int = 4
    per_device_eval_batch_size: int = 4
    num_train_epochs: float = 3.0
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    ddp_broadcast_buffers: bool | None = False


class VideoLanguageTrainer(VideoQuestionTrainer):
    r"""
    Trains and evaluates a video-language model on questions about videos, with siamese reasoning over its clips. What
    it saves loads with plain Transformers (and peft for an adapter).

    Args:
        model ([`PreTrainedModel`], or a `PeftModel` of one): A model of `AutoModelForImageTextToText`.
        args ([`VideoLanguageTrainingArguments`]): The training arguments.
        train_dataset ([`VideoClipDataset`], *optional*): The training questions.
        eval_dataset ([`VideoClipDataset`], or a `dict` of them by name, *optional*): The evaluation questions.
        processing_class ([`VideoLanguageProcessor`]): The processor with the settings; saved with each checkpoint.
        kwargs: Passed on to [`~transformers.Trainer`].

    Raises:
        `ValueError`: If one process drives several GPUs, or clips have different numbers of frames with FSDP.
    """

    def __init__(self, model: PreTrainedModel | nn.Module, args: VideoLanguageTrainingArguments, **kwargs):
        super().__init__(model, args, **kwargs)
        # With FSDP all processes must run the model equally often, and clips of other lengths are further runs.
        # Gradient checkpointing keeps no cache.
        self.data_collator.share = not (self.is_fsdp_enabled or args.gradient_checkpointing)
        if self.is_fsdp_enabled and self.method.frames_per_clip == "adaptive":
            raise ValueError("With FSDP, frames_per_clip must be a number: processes run the model equally often.")

    def method_of(self, model: nn.Module, processor: VideoLanguageProcessor) -> VideoLanguageSettings:
        """Returns the settings that the processor holds."""
        return processor.settings

    def make_collator(
        self, model: nn.Module, processor: VideoLanguageProcessor, args: VideoLanguageTrainingArguments
    ) -> VideoLanguageDataCollator:
        """Returns the collator that writes the prompts."""
        return VideoLanguageDataCollator(processor)

    def check_dataset(self, dataset: VideoQuestionDataset) -> None:
        """Raises a `ValueError` if a question cannot be put to the model."""
        super().check_dataset(dataset)
        self.data_collator.processor.check(dataset.questions)

    @staticmethod
    def count_rows(batch: dict[str, Any]) -> torch.Tensor:
        """Counts the rows of a training batch twice, because each has a known answer: `(2,)`."""
        return torch.tensor([len(batch["rows"])] * 2)

    # Training

    def check_training_rows(self, rows: Sequence[VideoQuestion]) -> None:
        """Raises a `ValueError` if a row has no answer: its tokens are the labels. Warns of rows without a span."""
        refuse_unlabelled(rows)
        if self.method.teacher_span and self.method.siamese_clips_trained:
            note_rows_without_span(rows)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, list[AnswerReasoningOutput]]:
        r"""
        Computes equation 8: L = L_gt + alpha L_siamese (paper), both means over questions.

        Args:
            model (`nn.Module`): The model, wrapped or not.
            inputs (`dict`): A batch of [`VideoLanguageDataCollator`].
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the parts' outputs too.
            num_items_in_batch (`torch.Tensor` of shape `(2,)`, *optional*):
                Rows of the optimizer step, see [`~VideoQuestionTrainer.shares`]. By default the means are over this
                batch.

        Returns:
            `torch.Tensor`, or `tuple(torch.Tensor, list[AnswerReasoningOutput])`.
        """
        (_, counted), (_, share) = self.shares(inputs, num_items_in_batch)
        loss, outputs = 0.0, []
        for part in inputs["parts"]:
            smoothing = self.args.label_smoothing_factor
            output = reason_over_clips(model, part["clips"], part["labels"], self.method, smoothing)
            of_batch = len(part["questions"]) / len(inputs["rows"])
            loss = loss + share * of_batch * output.loss
            if output.loss_siamese is not None:
                loss = loss + share * of_batch * self.method.alpha * output.loss_siamese
            outputs.append(output)
            for name, value in _measures(output).items():
                self.training_log.note(f"{name}/{inputs['task']}", value, counted * of_batch)
        if num_items_in_batch is not None:
            self.finite_steps.note(inputs["rows"], loss, torch.cat([output.finite for output in outputs]))
        return (loss, outputs) if return_outputs else loss

    # Evaluation

    def answer(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        """
        Notes the answers to an evaluation batch. The loss of a multiple-choice question is over its candidates, other
        losses are means over the tokens of the right answer; it is NaN if that is not known.
        """
        model, rows = self.accelerator.unwrap_model(model), iter(inputs["rows"].tolist())
        at_a_time = max(self.args.per_device_eval_batch_size, ROWS_AT_A_TIME)
        for part in inputs["parts"]:
            asked = part["shared"]
            answered = answer_questions(model, self.processing_class, asked, at_a_time)
            pixels = [value.flatten() for name, value in asked["inputs"].items() if name.startswith("pixel_values")]
            frames = digest_frames(torch.cat(pixels))
            for question, (log_p, text, score), lengths, row in zip(
                part["questions"], answered, asked["lengths"], rows
            ):
                loss, finite = math.nan, torch.isfinite(log_p).all().item()  # log_p (answers,)
                if question.task == "multiple_choice":
                    score, answer = (value.item() for value in log_p.softmax(dim=0).max(dim=0))
                    if question.answer is not None:
                        loss = -log_p.log_softmax(dim=0)[question.answer].item()
                else:
                    answer, finite = written_answer(question, text), finite and math.isfinite(score)
                    score = None if question.task == "count" else score
                    if question.answer is not None:
                        loss = -log_p.item() / lengths[0]
                self.answers.answers[row] = Noted(answer, score, loss, finite, frames)


def written_answer(question: VideoQuestion, text: str) -> str | float | None:
    """
    Returns a generated answer as annotations write it (decision). An open-ended answer is spelled like the right one
    if only case or a full stop differ; a count is the first generated number.
    """
    if question.task == "count":
        return parse_count(text)
    text = normalize_answer(text)
    return next((right for right in question.right_answers if normalize_answer(right) == text), text)


def _measures(output: AnswerReasoningOutput) -> dict[str, torch.Tensor]:
    """Returns what [`TrainingLog`] notes of a forward pass, as means over questions."""
    measures, mean = {"loss_gt": output.loss}, output.tokens.mean
    anchor, siamese = output.clip_predictions[:, :1], output.clip_predictions[:, 1:]  # (tokens, clips)
    if siamese.shape[1]:
        measures["clip_agreement"] = mean((siamese == anchor).float().mean(dim=1))
    if output.soft_labels is not None:
        even = average_affinity(output.affinity.shape[-1], output.affinity.device)
        measures["loss_siamese"] = output.loss_siamese
        measures["affinity_deviation"] = (output.affinity - even).abs().sum(dim=-1).mean()
        measures["soft_label_entropy"] = mean(torch.special.entr(output.soft_labels).sum(dim=1))
        measures["soft_label_accuracy"] = mean(output.soft_labels.argmax(dim=1) == output.tokens.labels)
        measures["anchor_accuracy"] = mean(anchor[:, 0] == output.tokens.labels)
    return measures
