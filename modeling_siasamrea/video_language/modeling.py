"""Equations 1 to 8 over the answer tokens of a video-language model, in the memory of one clip's answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from transformers import BatchFeature

from ..loss_siasamrea import siamese_loss
from ..siamese_reasoning import SiameseReasoning, clip_weights
from .settings import VideoLanguageSettings


@dataclass
class AnswerReasoningOutput:
    """
    What a pass over the clips of some questions gives. `tokens` are those of all the answers, one after another.

    Args:
        loss (`torch.Tensor`): The ground-truth loss L_gt: mean over the tokens of an answer, then over questions.
        loss_siamese (`torch.Tensor`, *optional*): The siamese loss L_siamese, likewise.
        finite (`torch.BoolTensor` of shape `(questions,)`): Whether the scores of all clips are finite numbers.
        logits (`torch.Tensor` of shape `(tokens, vocabulary)`): The anchor's next-token scores.
        labels (`torch.LongTensor` of shape `(tokens,)`): The right tokens.
        clip_predictions (`torch.LongTensor` of shape `(tokens, clips)`): The token that each clip finds most likely.
        soft_labels (`torch.Tensor` of shape `(tokens, vocabulary)`, *optional*): Q of equations 3 to 5.
        affinity (`torch.Tensor` of shape `(questions, clips, clips)`, *optional*): Equation 2.
    """

    loss: torch.Tensor
    loss_siamese: torch.Tensor | None
    finite: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    clip_predictions: torch.Tensor
    soft_labels: torch.Tensor | None = None
    affinity: torch.Tensor | None = None


@contextmanager
def before(layer: nn.Module, do: Callable[[nn.Module, torch.Tensor], None]) -> Iterator[None]:
    """Runs `do` on the layer and its input whenever the layer runs."""
    handle = layer.register_forward_pre_hook(lambda module, inputs: do(module, inputs[0]))
    try:
        yield
    finally:
        handle.remove()


class AnswerTokens:
    """
    Where the answers of a batch are. The model keeps the last positions of each row: those before the answer's tokens,
    which predict them, and the last token itself, which predicts nothing.

    Args:
        answer_ids (`torch.LongTensor` of shape `(questions, longest answer)`): Aligned at the right, -100 elsewhere.
    """

    def __init__(self, answer_ids: torch.Tensor):
        self.is_answer = answer_ids != -100
        self.labels = answer_ids[self.is_answer]  # (tokens,)
        self.lengths = self.is_answer.sum(dim=1)
        self.longest = answer_ids.shape[1]
        self.question = torch.arange(len(answer_ids), device=answer_ids.device).repeat_interleave(self.lengths)

    @property
    def kept(self) -> int:
        """Positions that the model is to keep, its `logits_to_keep`."""
        return self.longest + 1

    def predicting(self, kept: torch.Tensor) -> torch.Tensor:
        """Of `(questions, kept, width)` the rows that predict the answers' tokens, `(tokens, width)`."""
        return kept[:, :-1][self.is_answer]

    def last_of_prompt(self, kept: torch.Tensor) -> torch.Tensor:
        """Of `(questions, kept, width)` the row of the last prompt token, `(questions, width)`."""
        return kept[torch.arange(len(kept), device=kept.device), self.longest - self.lengths]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of `(tokens,)` over each answer, `(questions,)`."""
        return values.new_zeros(len(self.lengths)).index_add(0, self.question, values)

    def all_finite(self, logits: torch.Tensor) -> torch.Tensor:
        """Whether all of `(tokens, vocabulary)` is finite in each answer, `(questions,)`."""
        return self.sum((~torch.isfinite(logits).all(dim=-1)).float()) == 0

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of `(tokens,)` over each answer, then over questions: each counts the same (decision)."""
        return (self.sum(values) / self.lengths).mean()


def run_clip(
    model: nn.Module,
    output_layer: nn.Module,
    inputs: BatchFeature,
    kept: int,
    before_output: Callable[[nn.Module, torch.Tensor], None] = lambda layer, states: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    Runs the model on one clip a question.

    Args:
        model (`nn.Module`): The model, wrapped by LoRA, DDP or FSDP, or not.
        output_layer (`nn.Module`): Its `get_output_embeddings()`.
        inputs ([`BatchFeature`]): Its inputs.
        kept (`int`): Last positions that logits are wanted of.
        before_output (`Callable`, *optional*): Called with the output layer and its input, before it runs.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: logits `(questions, kept, vocabulary)` and the hidden states that the
        output layer made them from, `(questions, kept, hidden_size)`.
    """
    states = []

    def look(layer: nn.Module, kept_states: torch.Tensor) -> None:
        states.append(kept_states)
        before_output(layer, kept_states)

    with before(output_layer, look):
        logits = model(**inputs, logits_to_keep=kept, use_cache=False).logits
    return logits, states[0]


def reason_over_clips(
    model: nn.Module,
    output_layer: nn.Module,
    clips: list[BatchFeature],
    answer_ids: torch.Tensor,
    settings: VideoLanguageSettings,
    label_smoothing: float = 0.0,
) -> AnswerReasoningOutput:
    r"""
    The losses of equation 8 under teacher forcing. P is the next-token distribution at each answer token, f the
    hidden state of the last prompt token (decision), and Q is summed clip by clip: of the siamese clips only the
    hidden states of the answers' tokens stay in memory, and their probabilities are made one clip at a time.

    Args:
        model (`nn.Module`): The model, wrapped or not; in training each clip goes through its forward.
        output_layer (`nn.Module`): Its `get_output_embeddings()`.
        clips (`list[BatchFeature]`): The model's inputs of each clip, the anchor first: prompts with right answers.
        answer_ids (`torch.LongTensor` of shape `(questions, longest answer)`):
            The answers' tokens, aligned at the right, -100 elsewhere.
        settings ([`VideoLanguageSettings`]): The method.
        label_smoothing (`float`, *optional*, defaults to 0): Share of L_gt that is cross-entropy with an even label.

    Returns:
        [`AnswerReasoningOutput`]

    Raises:
        `ValueError`: If there is a siamese loss and another number of clips than the settings say.
    """
    reasons = settings.alpha > 0
    if reasons and len(clips) != settings.num_clips:
        raise ValueError(f"The settings say num_clips={settings.num_clips}, but the batch has {len(clips)} clips.")
    tokens = AnswerTokens(answer_ids)

    def ground_truth(logits: torch.Tensor) -> torch.Tensor:
        losses = nn.functional.cross_entropy(
            logits.float(), tokens.labels, reduction="none", label_smoothing=label_smoothing
        )
        return tokens.mean(losses)

    # Siamese clips first: what they need in memory is free again when the anchor's graph is built.
    supervised = settings.supervised_clips == "all"
    states, features, predictions, losses, finite = [], [], [], [], []
    for inputs in clips[1:]:
        with nullcontext() if supervised else torch.no_grad():
            kept_logits, kept_states = run_clip(model, output_layer, inputs, tokens.kept)
            logits = tokens.predicting(kept_logits)
            losses += [ground_truth(logits)] if supervised else []
        finite.append(tokens.all_finite(logits))
        predictions.append(logits.argmax(dim=-1))
        states.append(tokens.predicting(kept_states).detach())  # (tokens, hidden_size)
        features.append(tokens.last_of_prompt(kept_states).detach())  # (questions, hidden_size)

    affinity = weights = soft_labels = None

    @torch.no_grad()
    def soften(layer: nn.Module, kept_states: torch.Tensor) -> None:
        """The siamese clips' share of Q, inside the anchor's forward: there FSDP has the layer's weights whole."""
        nonlocal affinity, weights, soft_labels
        reasoning = SiameseReasoning(settings.method())
        of_clips = torch.stack([tokens.last_of_prompt(kept_states), *features], dim=1).float()
        with torch.autocast(kept_states.device.type, enabled=False):
            affinity = reasoning.affinity(of_clips)  # (questions, clips, clips)
            of_questions = clip_weights(affinity, *reasoning.weights(kept_states.device), settings.omega)
        weights = of_questions[tokens.question]  # (tokens, clips)
        soft_labels = 0.0
        for clip, clip_states in enumerate(states, start=1):
            # Past the hooks of the layer, of which this is one.
            soft_labels = soft_labels + weights[:, clip, None] * layer.forward(clip_states).float().softmax(dim=-1)
        # Autocast keeps the weights it has cast without gradient; the anchor needs its own.
        torch.clear_autocast_cache()

    if clips[1:] and not supervised:
        torch.clear_autocast_cache()
    kept_logits, _ = run_clip(model, output_layer, clips[0], tokens.kept, *([soften] if reasons else []))
    logits = tokens.predicting(kept_logits)  # (tokens, vocabulary)
    losses.insert(0, ground_truth(logits))
    finite.append(tokens.all_finite(logits))
    loss_siamese = None
    if reasons:
        soft_labels = soft_labels + weights[:, :1] * logits.detach().float().softmax(dim=-1)
        loss_siamese = tokens.mean(siamese_loss(logits, soft_labels, "open_ended"))
    return AnswerReasoningOutput(
        loss=torch.stack(losses).mean(),
        loss_siamese=loss_siamese,
        finite=torch.stack(finite).all(dim=0),
        logits=logits.detach(),
        labels=tokens.labels,
        clip_predictions=torch.stack([logits.argmax(dim=-1), *predictions], dim=1),
        soft_labels=soft_labels,
        affinity=affinity,
    )


@torch.no_grad()
def answer_log_likelihoods(
    model: nn.Module, output_layer: nn.Module, inputs: BatchFeature, answer_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    How likely each answer is after its prompt.

    Args:
        model (`nn.Module`): The model.
        output_layer (`nn.Module`): Its `get_output_embeddings()`.
        inputs ([`BatchFeature`]): Prompts with answers, one clip each.
        answer_ids (`torch.LongTensor` of shape `(rows, longest answer)`): The answers' tokens.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: of each row the log-likelihood of the whole answer with the token that
        ends it, not divided by its length (decision: so it is the logarithm of a probability), and its length.
    """
    tokens = AnswerTokens(answer_ids)
    logits = tokens.predicting(run_clip(model, output_layer, inputs, tokens.kept)[0])
    log_p = logits.float().log_softmax(dim=-1).gather(1, tokens.labels[:, None]).squeeze(1)
    return tokens.sum(log_p), tokens.lengths


__all__ = [
    "AnswerReasoningOutput",
    "AnswerTokens",
    "answer_log_likelihoods",
    "before",
    "reason_over_clips",
    "run_clip",
]
