"""Equations 1 to 5 against numbers worked by hand."""

import math

import pytest
import torch

from modeling_siasamrea import SiaSamReaConfig
from modeling_siasamrea.siamese_reasoning import (
    SiameseReasoning,
    average_affinity,
    clip_weights,
    siamese_knowledge_generation,
    siamese_knowledge_reasoning,
)


FEATURES = torch.tensor([[3.0, 0.0], [0.0, 2.0], [5.0, 0.0]])  # cosines: (0, 1) 0, (0, 2) 1, (1, 2) 0


def test_affinity_is_a_softmax_of_cosines_over_the_other_clips():
    near, far = math.e / (1 + math.e), 1 / (1 + math.e)
    expected = torch.tensor([[0.0, far, near], [0.5, 0.0, 0.5], [near, far, 0.0]])
    torch.testing.assert_close(siamese_knowledge_generation(FEATURES), expected)


def test_affinity_of_a_batch_keeps_questions_apart():
    batch = torch.stack([FEATURES, FEATURES.flip(0)])
    torch.testing.assert_close(siamese_knowledge_generation(batch)[1], siamese_knowledge_generation(FEATURES.flip(0)))


def test_affinity_of_one_clip_is_refused():
    with pytest.raises(ValueError, match="at least 2 clips"):
        siamese_knowledge_generation(FEATURES[:1])


def test_average_affinity():
    torch.testing.assert_close(average_affinity(3), torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]))


def test_soft_label_by_hand():
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    affinity = torch.tensor([[0.0, 0.25, 0.75], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    w1, w2 = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.2, 0.3, 0.5])
    # A P = [[.375, .625], [.75, .25], [1, 0]]; W1 A P = [.5625, .4375]; W2 P = [.45, .55]
    expected = torch.tensor([0.2 * 0.5625 + 0.8 * 0.45, 0.2 * 0.4375 + 0.8 * 0.55])
    torch.testing.assert_close(siamese_knowledge_reasoning(probabilities, affinity, w1, w2, 0.2), expected)


def test_clip_weights_by_hand_and_as_the_soft_label_has_them():
    affinity = torch.tensor([[0.0, 0.25, 0.75], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    w1, w2 = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.2, 0.3, 0.5])
    # W1 A = [.25, .125, .625]
    expected = 0.2 * torch.tensor([0.25, 0.125, 0.625]) + 0.8 * w2
    weights = clip_weights(affinity, w1, w2, 0.2)
    torch.testing.assert_close(weights, expected)
    probabilities = torch.rand(4, 3, 5).softmax(dim=-1)
    summed = (weights[:, None] * probabilities).sum(dim=1)
    torch.testing.assert_close(summed, siamese_knowledge_reasoning(probabilities, affinity, w1, w2, 0.2))


def test_siamese_weights_leave_out_the_anchor():
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    affinity = torch.tensor([[0.0, 0.25, 0.75], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    w1, w2 = reasoning(reasoning_weights="siamese").weights()
    assert (w1.tolist(), w2.tolist()) == ([1.0, 0.0, 0.0], [0.0, 0.5, 0.5])
    # 0.2 [0.25 * 0 + 0.75 * 0.5, 0.25 * 1 + 0.75 * 0.5] + 0.8 [(0 + 0.5) / 2, (1 + 0.5) / 2]
    soft_label = siamese_knowledge_reasoning(probabilities, affinity, w1, w2, 0.2)
    torch.testing.assert_close(soft_label, torch.tensor([0.275, 0.725]))
    assert clip_weights(affinity, w1, w2, 0.2)[0] == 0


def reasoning(**kwargs) -> SiameseReasoning:
    return SiameseReasoning(SiaSamReaConfig(num_clips=3, **kwargs))


def test_soft_labels_are_distributions_and_start_uniform():
    module = reasoning()
    features, logits = torch.randn(4, 3, 8), torch.randn(4, 3, 5)
    soft_labels, affinity = module(features, logits)
    torch.testing.assert_close(soft_labels.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(affinity.sum(dim=2), torch.ones(4, 3))
    for weights in module.weights():
        torch.testing.assert_close(weights, torch.full((3,), 1 / 3))


def test_omega_1_with_average_affinity_leaves_out_what_the_clip_says_itself():
    module = reasoning(omega=1.0, affinity="average", reasoning_weights="anchor")
    logits = torch.randn(1, 3, 5)
    soft_labels, _ = module(torch.randn(1, 3, 8), logits)
    torch.testing.assert_close(soft_labels, logits[:, 1:].softmax(dim=2).mean(dim=1))


def test_counts_are_propagated_as_numbers():
    soft_labels, _ = reasoning(omega=0.0, reasoning_weights="uniform")(
        torch.randn(1, 3, 8), torch.tensor([[[2.0], [3.0], [7.0]]])
    )
    torch.testing.assert_close(soft_labels, torch.tensor([[4.0]]))


@pytest.mark.parametrize("detach", ["targets", "none", "all"])
def test_where_gradients_stop(detach):
    module = reasoning(detach=detach)
    features = torch.randn(2, 3, 8, requires_grad=True)
    logits = torch.randn(2, 3, 5, requires_grad=True)
    soft_labels, _ = module(features, logits)
    if detach == "all":
        assert not soft_labels.requires_grad
        return
    soft_labels[:, 0].sum().backward()
    assert module.w1_logits.grad.abs().sum() > 0 and module.w2_logits.grad.abs().sum() > 0
    assert (features.grad is not None and features.grad.abs().sum() > 0) == (detach == "none")
    assert (logits.grad is not None) == (detach == "none")


def test_fixed_weights_have_no_parameters():
    assert not list(reasoning(reasoning_weights="uniform").parameters())
    w1, w2 = reasoning(reasoning_weights="anchor").weights()
    assert w1.tolist() == w2.tolist() == [1.0, 0.0, 0.0]


def test_a_batch_with_another_number_of_clips_is_refused():
    with pytest.raises(ValueError, match="num_clips is 3, that of the batch 2"):
        reasoning()(torch.randn(1, 2, 8), torch.randn(1, 2, 5))
