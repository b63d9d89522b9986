"""Equation 8 against numbers worked by hand."""

import math

import pytest
import torch

from modeling_siasamrea.loss_siasamrea import (
    aggregate_clips,
    ground_truth_loss,
    hinge_loss,
    mean_over_known,
    siamese_loss,
)


def test_hinge_sums_over_wrong_candidates():
    scores = torch.tensor([[2.0, 0.5, 1.5], [0.0, 0.0, 3.0]])
    # correct 0: max(0, 1 - 1.5) + max(0, 1 - .5) = .5; correct 1: max(0, 1 - 0) + max(0, 1 + 3) = 5
    torch.testing.assert_close(hinge_loss(scores, torch.tensor([0, 1])), torch.tensor([0.5, 5.0]))


def test_open_ended_is_cross_entropy_and_skips_unknown_answers():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, -5.0]])
    losses = ground_truth_loss(logits, torch.tensor([1, -100]), "open_ended")
    torch.testing.assert_close(losses, torch.tensor([-math.log(0.75), 0.0]))
    assert mean_over_known(losses, torch.tensor([1, -100])).item() == pytest.approx(-math.log(0.75))


def test_a_batch_of_unknown_answers_has_no_loss():
    labels = torch.tensor([-100, -100])
    assert mean_over_known(ground_truth_loss(torch.randn(2, 3), labels, "open_ended"), labels).item() == 0


@pytest.mark.parametrize("how", ["hinge", "cross_entropy"])
def test_an_unknown_candidate_or_count_has_no_loss_and_no_gradient(how):
    scores = torch.tensor([[2.0, 0.5, 1.5], [0.0, 9.0, 3.0]], requires_grad=True)
    labels = torch.tensor([0, -100])
    losses = ground_truth_loss(scores, labels, "multiple_choice", how)
    expected = 0.5 if how == "hinge" else math.log(1 + math.exp(-1.5) + math.exp(-0.5))
    torch.testing.assert_close(losses, torch.tensor([expected, 0.0]))
    assert mean_over_known(losses, labels).item() == pytest.approx(expected)
    losses.sum().backward()
    assert scores.grad[0].any() and not scores.grad[1].any()

    counts = ground_truth_loss(torch.tensor([[2.5], [4.0]]), torch.tensor([2.0, -100.0]), "count")
    torch.testing.assert_close(counts, torch.tensor([0.25, 0.0]))


def test_multiple_choice_by_cross_entropy():
    losses = ground_truth_loss(torch.zeros(1, 4), torch.tensor([2]), "multiple_choice", "cross_entropy")
    torch.testing.assert_close(losses, torch.tensor([math.log(4)]))


def test_count_is_squared_error():
    losses = ground_truth_loss(torch.tensor([[2.5], [4.0]]), torch.tensor([2.0, 1.0]), "count")
    torch.testing.assert_close(losses, torch.tensor([0.25, 9.0]))


def test_siamese_loss_is_the_cross_entropy_to_the_soft_label():
    anchor = torch.tensor([[0.0, math.log(3)]])
    soft = torch.tensor([[0.4, 0.6]])
    expected = -(0.4 * math.log(0.25) + 0.6 * math.log(0.75))
    assert siamese_loss(anchor, soft, "open_ended").item() == pytest.approx(expected)
    assert siamese_loss(torch.tensor([[3.0]]), torch.tensor([[1.0]]), "count").item() == pytest.approx(4.0)


def test_aggregation_over_clips():
    logits = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    torch.testing.assert_close(aggregate_clips(logits, "mean", "open_ended"), torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(aggregate_clips(logits, "max", "open_ended"), torch.tensor([[3.0, 2.0]]))
    expected = torch.tensor([[math.log(math.e + math.e**3), math.log(math.e**2 + 1)]])
    torch.testing.assert_close(aggregate_clips(logits, "lse", "open_ended"), expected)
    counts = torch.tensor([[[2.0], [5.0]]])
    for how in ("mean", "max", "lse"):
        assert aggregate_clips(counts, how, "count").item() == 3.5


def test_cross_entropy_of_lse_is_clipberts_lse_loss():
    logits, label = torch.randn(1, 3, 4), torch.tensor([2])
    clipbert = logits.flatten(1).logsumexp(dim=1) - logits[:, :, 2].logsumexp(dim=1)
    torch.testing.assert_close(
        ground_truth_loss(aggregate_clips(logits, "lse", "open_ended"), label, "open_ended"), clipbert
    )
