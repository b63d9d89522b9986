"""Equation 8 of SiaSamRea: the ground-truth loss of each task, and the siamese loss, per question."""

import torch
from torch import nn


def hinge_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    r"""
    Computes the summed pairwise hinge of the correct candidate against each wrong one.

    Args:
        scores (`torch.Tensor` of shape `(questions, candidates)`): Score of each candidate.
        labels (`torch.LongTensor` of shape `(questions,)`): Index of the correct candidate.

    Returns:
        `torch.Tensor` of shape `(questions,)`: sum over wrong candidates of max(0, 1 - (positive - negative)).

    Origin: paper, section on multiple choice.
    """
    positive = scores.gather(1, labels[:, None])  # (questions, 1)
    wrong = torch.ones_like(scores).scatter(1, labels[:, None], 0.0)
    return ((1 - (positive - scores)).clamp(min=0) * wrong).sum(dim=1)


def ground_truth_loss(
    logits: torch.Tensor, labels: torch.Tensor, task: str, multiple_choice_loss: str = "hinge"
) -> torch.Tensor:
    r"""
    Computes L_gt of equation 8 for each question.

    Args:
        logits (`torch.Tensor` of shape `(questions, classes)`):
            Scores of the answers (`"open_ended"`) or candidates (`"multiple_choice"`), or the count (one class).
        labels (`torch.Tensor` of shape `(questions,)`):
            Index of the answer or of the candidate, or the count; -100 where it is unknown or outside the vocabulary.
        task (`str`): `"open_ended"`, `"multiple_choice"` or `"count"`.
        multiple_choice_loss (`str`, *optional*, defaults to `"hinge"`): `"hinge"` or `"cross_entropy"`.

    Returns:
        `torch.Tensor` of shape `(questions,)`: cross-entropy (paper), hinge (paper) or cross-entropy (ClipBERT), or
        squared error (decision). 0 where the label is -100.
    """
    unknown = labels == -100
    labels = labels.masked_fill(unknown, 0)  # any class there is
    if task == "count":
        losses = (logits.float().squeeze(1) - labels.float()) ** 2
    elif task == "multiple_choice" and multiple_choice_loss == "hinge":
        losses = hinge_loss(logits.float(), labels)
    else:
        losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    return losses.masked_fill(unknown, 0.0)


def siamese_loss(anchor_logits: torch.Tensor, soft_labels: torch.Tensor, task: str) -> torch.Tensor:
    r"""
    Computes L_siamese of equation 8 for each question: how far the anchor's prediction is from the soft label.

    Args:
        anchor_logits (`torch.Tensor` of shape `(questions, classes)`): The anchor clip's scores, or its count.
        soft_labels (`torch.Tensor` of shape `(questions, classes)`): Q of equations 3 to 5.
        task (`str`): `"open_ended"`, `"multiple_choice"` or `"count"`.

    Returns:
        `torch.Tensor` of shape `(questions,)`: the cross-entropy between soft label and prediction (paper); for counts
        the squared error (decision).
    """
    if task == "count":
        return ((anchor_logits.float() - soft_labels) ** 2).squeeze(1)
    return -(soft_labels * anchor_logits.float().log_softmax(dim=1)).sum(dim=1)


def aggregate_clips(clip_logits: torch.Tensor, how: str, task: str) -> torch.Tensor:
    r"""
    Joins the scores of a video's clips into one prediction, for ClipBERT's training and for ensembles at inference.

    Args:
        clip_logits (`torch.Tensor` of shape `(questions, clips, classes)`): Each clip's scores.
        how (`str`): `"mean"`, `"max"` or `"lse"` (log-sum-exp; its cross-entropy is ClipBERT's `lse` loss).
        task (`str`): Counts are always averaged: the other two are not counts.

    Returns:
        `torch.Tensor` of shape `(questions, classes)`.
    """
    if how == "mean" or task == "count":
        return clip_logits.mean(dim=1)
    return clip_logits.amax(dim=1) if how == "max" else clip_logits.logsumexp(dim=1)


def mean_over_known(losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the mean of `losses` `(questions,)` over the questions whose label is not -100; 0 without any."""
    known = labels != -100
    return losses.sum() / known.sum().clamp(min=1)


def smooth_loss(
    loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, task: str, share: float
) -> torch.Tensor:
    r"""
    Smooths the labels of a batch's L_gt: `share` of it becomes the cross-entropy with a uniform label (decision: not
    for counts).

    Args:
        loss (`torch.Tensor`): The mean L_gt of the questions whose label is known.
        logits (`torch.Tensor` of shape `(questions, classes)`): The scores that it was computed from.
        labels (`torch.Tensor` of shape `(questions,)`): The labels; -100 where one is not known.
        task (`str`): `"open_ended"`, `"multiple_choice"` or `"count"`.
        share (`float`): From 0 to 1.

    Returns:
        `torch.Tensor`: a mean over the same questions.
    """
    if not share or task == "count":
        return loss
    even = torch.full_like(logits, 1 / logits.shape[1], dtype=torch.float)
    losses = siamese_loss(logits, even, task).masked_fill(labels == -100, 0.0)
    return (1 - share) * loss + share * mean_over_known(losses, labels)
