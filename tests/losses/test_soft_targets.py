"""The cross-entropy of a few candidates' scores against a loop."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.losses.soft_targets import soft_label_loss


def test_the_loss_equals_a_loop() -> None:
    torch.manual_seed(1)
    student, teacher, present = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.rand(4, 6) < 0.7
    present[:, 0] = True
    found = soft_label_loss(student, teacher, present)
    for row in range(4):
        own, other = ([math.exp(value) for value in side[row][present[row]].tolist()] for side in (student, teacher))
        expected = -sum(q / sum(other) * math.log(p / sum(own)) for p, q in zip(own, other))
        assert found[row].item() == pytest.approx(expected, rel=1e-12)


def test_padding_and_impossible_items_add_nothing() -> None:
    scores = torch.tensor([[1.0, -2.0, 80.0], [3.0, 4.0, 5.0]], requires_grad=True)
    soft = torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]])
    present = torch.tensor([[True, True, False], [False] * 3])
    loss = soft_label_loss(scores, soft, present)
    log_mass = torch.tensor([1.0, -2.0]).logsumexp(0).item()
    share = 1 / (1 + math.exp(0.5))  # of the first item, for the teacher
    assert loss.tolist() == pytest.approx([log_mass - share * 1.0 - (1 - share) * -2.0, 0.0])
    loss.sum().backward()
    assert scores.grad is not None
    assert scores.grad[0, 2] == 0
    assert not scores.grad[1].any()
    all_on_one = soft_label_loss(scores[:1], torch.tensor([[0.0, -torch.inf, 0.0]]), present[:1])
    assert all_on_one.item() == pytest.approx(log_mass - 1.0)
