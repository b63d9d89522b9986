"""Computes equations 1 to 8 over the answer tokens of a video-language model."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import BatchFeature

from ..loss_siasamrea import siamese_loss
from ..siamese_reasoning import SiameseReasoning, clip_weights
from .settings import VideoLanguageSettings
from .shared_prompts import Prompt, run_model


class AnswerTokens:
    """
    Finds the tokens of the answers of a batch among the last positions of its rows.

    Args:
        labels (`torch.LongTensor` of shape `(questions, positions)`):
            The token that each position predicts; -100 where no token of an answer follows.
    """

    def __init__(self, labels: torch.Tensor):
        self.is_answer = labels != -100
        self.labels = labels[self.is_answer]  # (tokens,)
        lengths = self.is_answer.sum(dim=1)
        self.question = torch.arange(len(labels), device=labels.device).repeat_interleave(lengths)
        self.weights = 1 / lengths[self.question] / len(labels)  # each question counts the same (decision)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the mean of `(tokens,)` over each answer, then over questions."""
        return values.float() @ self.weights

    def all_finite(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns whether all of `(tokens, vocabulary)` is finite in each answer, `(questions,)`."""
        bad = self.question[~torch.isfinite(logits).all(dim=-1)]
        return torch.bincount(bad, minlength=len(self.is_answer)) == 0


@dataclass
class AnswerReasoningOutput:
    """
    Holds the losses and scores of a pass over the clips of some questions. The tokens of all answers are in one row.

    Args:
        loss (`torch.Tensor`): The ground-truth loss L_gt: mean over the tokens of an answer, then over questions.
        loss_siamese (`torch.Tensor`, *optional*): The siamese loss L_siamese, likewise.
        finite (`torch.BoolTensor` of shape `(questions,)`): Whether the scores of all clips are finite numbers.
        logits (`torch.Tensor` of shape `(tokens, vocabulary)`): The anchor's next-token scores.
        tokens ([`AnswerTokens`]): The right tokens, and of which question each is.
        clip_predictions (`torch.LongTensor` of shape `(tokens, clips)`): The token that each clip finds most likely.
        soft_labels (`torch.Tensor` of shape `(tokens, vocabulary)`, *optional*): Q of equations 3 to 5.
        affinity (`torch.Tensor` of shape `(questions, clips, clips)`, *optional*): Equation 2.
    """

    loss: torch.Tensor
    loss_siamese: torch.Tensor | None
    finite: torch.Tensor
    logits: torch.Tensor
    tokens: AnswerTokens
    clip_predictions: torch.Tensor
    soft_labels: torch.Tensor | None = None
    affinity: torch.Tensor | None = None


def run_clip(model: nn.Module, inputs: BatchFeature, tokens: AnswerTokens) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    Runs the model on one clip per question.

    Args:
        model (`nn.Module`): The model, wrapped by LoRA, DDP or FSDP, or not.
        inputs ([`BatchFeature`]): Its inputs; those of the common beginning, where `tails` follow it.
        tokens ([`AnswerTokens`]): Where the answers are.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the logits that predict the answers' tokens, `(tokens, vocabulary)`, as
        the model returns them, and the hidden state of the last prompt token, `(questions, hidden_size)`.
    """
    kept = tokens.is_answer.shape[1]
    if "tails" in inputs:
        tails, beginning = inputs["tails"], {name: value for name, value in inputs.items() if name != "tails"}
        logits, states = Prompt(model, beginning, tails[0]).repeat(len(tails)).read(tails, kept)
    else:
        logits, states, _ = run_model(model, inputs, kept)
    last_of_prompt = tokens.is_answer.float().argmax(dim=1)  # it predicts the first token of the answer
    return logits[tokens.is_answer], states[torch.arange(len(states), device=states.device), last_of_prompt]


def reason_over_clips(
    model: nn.Module,
    clips: list[BatchFeature],
    labels: torch.Tensor,
    settings: VideoLanguageSettings,
    label_smoothing: float = 0.0,
) -> AnswerReasoningOutput:
    r"""
    Computes the losses of equation 8 under teacher forcing. P is the next-token distribution at each answer token, f
    the hidden state of the last prompt token (decision).

    Args:
        model (`nn.Module`): The model, wrapped or not; in training each clip goes through its forward.
        clips (`list[BatchFeature]`): The model's inputs of each clip, the anchor first: prompts with right answers.
        labels (`torch.LongTensor` of shape `(questions, positions)`):
            The token that each of the last positions predicts; -100 where no token of an answer follows.
        settings ([`VideoLanguageSettings`]): The method.
        label_smoothing (`float`, *optional*, defaults to 0): Share of L_gt that is cross-entropy with an even label.

    Returns:
        [`AnswerReasoningOutput`]

    Raises:
        `ValueError`: If there is a siamese loss and another number of clips than the settings say.
    """
    if settings.alpha > 0 and len(clips) != settings.num_clips:
        raise ValueError(f"The batch must have num_clips={settings.num_clips}; got {len(clips)}.")
    tokens = AnswerTokens(labels)
    supervised = settings.supervised_clips == "all"
    logits, features = [], []
    # Siamese clips first: what they need in memory is free again when the anchor's graph is built.
    for inputs in clips[1:]:
        with torch.set_grad_enabled(supervised and torch.is_grad_enabled()):
            of_clip, feature = run_clip(model, inputs, tokens)
        logits.append(of_clip)  # (tokens, vocabulary)
        features.append(feature.detach())  # (questions, hidden_size)
    if clips[1:] and not supervised:
        # Autocast keeps the weights it has cast without gradient; the anchor needs its own.
        torch.clear_autocast_cache()
    anchor, feature = run_clip(model, clips[0], tokens)
    logits.insert(0, anchor)
    features.insert(0, feature.detach())

    losses = [
        nn.functional.cross_entropy(of_clip.float(), tokens.labels, reduction="none", label_smoothing=label_smoothing)
        for of_clip in (logits if supervised else logits[:1])
    ]
    loss_siamese = soft_labels = affinity = None
    if settings.alpha > 0:
        soft_labels, affinity = soften(logits, features, tokens, settings)
        loss_siamese = tokens.mean(siamese_loss(anchor, soft_labels, "open_ended"))
    return AnswerReasoningOutput(
        loss=torch.stack([tokens.mean(of_clip) for of_clip in losses]).mean(),
        loss_siamese=loss_siamese,
        finite=torch.stack([tokens.all_finite(of_clip) for of_clip in logits]).all(dim=0),
        logits=anchor.detach(),
        tokens=tokens,
        clip_predictions=torch.stack([of_clip.argmax(dim=-1) for of_clip in logits], dim=1),
        soft_labels=soft_labels,
        affinity=affinity,
    )


@torch.no_grad()
def soften(
    logits: list[torch.Tensor], features: list[torch.Tensor], tokens: AnswerTokens, settings: VideoLanguageSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    Computes Q of equations 3 to 5, summed clip by clip, and the affinity of equation 2.

    Args:
        logits (`list[torch.Tensor]`): Of each clip, the anchor first, `(tokens, vocabulary)`.
        features (`list[torch.Tensor]`): Of each clip the f of equation 1, `(questions, hidden_size)`.
        tokens ([`AnswerTokens`]): Says of which question each token is.
        settings ([`VideoLanguageSettings`]): The method.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: `(tokens, vocabulary)` and `(questions, clips, clips)`.
    """
    reasoning = SiameseReasoning(settings.method())
    with torch.autocast(features[0].device.type, enabled=False):
        affinity = reasoning.affinity(torch.stack(features, dim=1).float())
        of_questions = clip_weights(affinity, *reasoning.weights(affinity.device), settings.omega)
    weights = of_questions[tokens.question]  # (tokens, clips)
    soft_labels = sum(weights[:, clip, None] * of_clip.float().softmax(dim=-1) for clip, of_clip in enumerate(logits))
    return soft_labels, affinity
