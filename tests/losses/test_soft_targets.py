"""The cross-entropy of a few candidates' scores against a loop."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.losses.soft_targets import score_cross_entropy


def test_the_score_loss_equals_a_loop() -> None:
    torch.manual_seed(1)
    student, teacher, present = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.rand(4, 6) < 0.7
    present[:, 0] = True
    for row in range(4):
        own, other = ([math.exp(value / 2) for value in side[row][present[row]].tolist()] for side in (student, teacher))
        expected = -sum(q / sum(other) * math.log(p / sum(own)) for p, q in zip(own, other))
        found = score_cross_entropy(student, teacher, present, 2.0)[row].item()
        assert found == pytest.approx(expected, rel=1e-12)
