"""Siamese knowledge generation and reasoning: equations 1 to 5 of SiaSamRea (Yu et al., NeurIPS 2021)."""

import torch
from torch import nn

from .configuration_siasamrea import SiaSamReaConfig


def siamese_knowledge_generation(features: torch.Tensor) -> torch.Tensor:
    r"""
    Computes how similar the clips of a video are: cosine similarities, with a softmax over the other clips per row.

    Args:
        features (`torch.Tensor` of shape `(..., clips, dim)`):
            The clip-text feature of each clip.

    Returns:
        `torch.Tensor` of shape `(..., clips, clips)`: the affinity, zero on the diagonal, each row summing to 1.

    Raises:
        `ValueError`: If there is only one clip.

    Origin: paper, equations 1 and 2. The diagonal is -inf before the softmax, because a zero would count as exp(0).
    """
    clips = features.shape[-2]
    if clips < 2:
        raise ValueError(f"An affinity needs at least 2 clips of a video; got {clips}.")
    features = nn.functional.normalize(features, dim=-1)
    similarity = features @ features.transpose(-1, -2)  # (..., clips, clips)
    diagonal = torch.eye(clips, dtype=torch.bool, device=features.device)
    return similarity.masked_fill(diagonal, float("-inf")).softmax(dim=-1)


def average_affinity(clips: int, device: torch.device | None = None) -> torch.Tensor:
    """Returns the affinity `(clips, clips)` without knowledge: 1 / (clips - 1) off the diagonal (paper, Table 1)."""
    return (1 - torch.eye(clips, device=device)) / (clips - 1)


def siamese_knowledge_reasoning(
    probabilities: torch.Tensor, affinity: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, omega: float
) -> torch.Tensor:
    r"""
    Computes the soft label of a question: one step that propagates answer probabilities along the clips' affinity.

    Args:
        probabilities (`torch.Tensor` of shape `(..., clips, classes)`):
            P, each clip's answer probabilities (or each clip's count, with one class).
        affinity (`torch.Tensor` of shape `(..., clips, clips)`):
            The affinity of [`siamese_knowledge_generation`].
        w1 (`torch.Tensor` of shape `(clips,)`):
            Weights of the propagated knowledge, summing to 1.
        w2 (`torch.Tensor` of shape `(clips,)`):
            Weights of the clips' own knowledge, summing to 1.
        omega (`float`):
            Share of the propagated knowledge, in [0, 1].

    Returns:
        `torch.Tensor` of shape `(..., classes)`: Q = omega W1 A P + (1 - omega) W2 P.

    Origin: paper, equations 3 to 5.
    """
    propagated = (w1 @ affinity).unsqueeze(-2) @ probabilities  # (..., 1, classes)
    own = w2 @ probabilities  # (..., classes)
    return omega * propagated.squeeze(-2) + (1 - omega) * own


def clip_weights(affinity: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, omega: float) -> torch.Tensor:
    r"""
    Computes the weight of each clip in the soft label, which is linear in the probabilities: Q = sum of c_i P_i. So Q
    can be summed clip by clip where the probabilities of all clips would not fit into memory.

    Args:
        affinity (`torch.Tensor` of shape `(..., clips, clips)`): That of [`siamese_knowledge_generation`].
        w1 (`torch.Tensor` of shape `(clips,)`): Weights of the propagated knowledge.
        w2 (`torch.Tensor` of shape `(clips,)`): Weights of the clips' own knowledge.
        omega (`float`): Share of the propagated knowledge.

    Returns:
        `torch.Tensor` of shape `(..., clips)`: c = omega W1 A + (1 - omega) W2, summing to 1.

    Origin: paper, equations 3 to 5, with P factored out.
    """
    return omega * (w1 @ affinity) + (1 - omega) * w2


class SiameseReasoning(nn.Module):
    """
    Computes the soft label of each question from the features and logits of its clips; has W1 and W2.

    W1 and W2 are each a softmax over N free parameters that start at zero, hence uniform (decision).

    Args:
        config ([`SiaSamReaConfig`]):
            Uses `num_clips`, `omega`, `affinity`, `reasoning_weights` and `detach`.
    """

    def __init__(self, config: SiaSamReaConfig):
        super().__init__()
        self.config = config
        if config.reasoning_weights == "learned":
            self.w1_logits = nn.Parameter(torch.zeros(config.num_clips))
            self.w2_logits = nn.Parameter(torch.zeros(config.num_clips))

    def weights(self, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns W1 and W2 as probabilities, each `(clips,)`."""
        if self.config.reasoning_weights == "learned":
            return self.w1_logits.float().softmax(dim=0), self.w2_logits.float().softmax(dim=0)
        clips = self.config.num_clips
        anchor = (torch.arange(clips, device=device) == 0).float()
        if self.config.reasoning_weights == "siamese":  # the anchor's affinity with itself is 0
            return anchor, (1 - anchor) / (clips - 1)
        weights = anchor if self.config.reasoning_weights == "anchor" else torch.full_like(anchor, 1 / clips)
        return weights, weights

    def affinity(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the affinity `(questions, clips, clips)` of float32 features `(questions, clips, dim)`."""
        if self.config.affinity == "knowledge":
            return siamese_knowledge_generation(features)
        questions, clips, _ = features.shape
        return average_affinity(clips, features.device).expand(questions, clips, clips)

    def forward(self, features: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Computes soft labels and affinity.

        Args:
            features (`torch.Tensor` of shape `(questions, clips, dim)`): The pooled feature of each clip.
            logits (`torch.Tensor` of shape `(questions, clips, classes)`): Scores of the answers, or one count.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: soft labels `(questions, classes)` and affinity
            `(questions, clips, clips)`, both in float32.

        Raises:
            `ValueError`: If the number of clips is not the number that W1 and W2 were made for.
        """
        clips = logits.shape[1]
        if clips != self.config.num_clips:
            raise ValueError(f"The model's num_clips is {self.config.num_clips}, that of the batch {clips}.")
        features, logits = features.float(), logits.float()
        if self.config.detach != "none":
            features, logits = features.detach(), logits.detach()

        # Autocast would round the soft label to half precision, so that it no longer sums to 1.
        with torch.autocast(logits.device.type, enabled=False):
            affinity = self.affinity(features)
            # One class is a count: the number itself is propagated (decision).
            probabilities = logits.softmax(dim=-1) if logits.shape[-1] > 1 else logits
            w1, w2 = self.weights(logits.device)
            soft_labels = siamese_knowledge_reasoning(probabilities, affinity, w1, w2, self.config.omega)
        return (soft_labels.detach() if self.config.detach == "all" else soft_labels), affinity
