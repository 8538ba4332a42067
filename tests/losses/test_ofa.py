"""The loss of OFA-KD: soft labels at gamma = 1, the share of the observed item, and each variant against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.losses.ofa import ofa_loss, ofa_weights
from recbole_hetcomp.losses.soft_targets import soft_label_loss


def case(seed: int, rows: int = 5, columns: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, a teacher's scores, and which are there: always the first."""
    generator = torch.Generator().manual_seed(seed)
    scores, soft = (3 * torch.randn(rows, columns, generator=generator, dtype=torch.float64) for _ in range(2))
    present = torch.rand(rows, columns, generator=generator) < 0.8
    present[:, 0] = True
    return scores, soft, present


@given(st.integers(0, 10_000))
def test_at_gamma_one_it_is_the_soft_labels_cross_entropy_and_so_is_its_gradient(seed) -> None:
    scores, soft, present = case(seed)
    scores.requires_grad_()
    losses = [ofa_loss(scores, soft, present, 1.0), soft_label_loss(scores, soft, present)]
    gradients = [torch.autograd.grad(loss.sum(), scores)[0] for loss in losses]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@given(st.integers(0, 10_000))
def test_the_share_of_the_observed_item_grows_with_gamma(seed) -> None:
    p = case(seed)[1].softmax(1)
    weights = [ofa_weights(p, gamma) for gamma in (1.0, 1.1, 1.2, 1.5, 2.0, 3.0)]
    shares = torch.stack([w[:, 0] / w.sum(1) for w in weights])
    assert (shares.diff(dim=0) > 0).all()
    torch.testing.assert_close(shares[0], p[:, 0])


@pytest.mark.parametrize("gamma", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_each_variant_equals_a_loop(variant, gamma) -> None:
    scores, soft, present = case(3)
    for row, found in enumerate(ofa_loss(scores, soft, present, gamma, variant).tolist()):
        there = present[row].nonzero()[:, 0].tolist()
        mass, of_teacher = (math.fsum(math.exp(x[row, c]) for c in there) for x in (scores, soft))
        total = 0.0
        for c in there:
            p, q = math.exp(soft[row, c]) / of_teacher, math.exp(scores[row, c]) / mass
            if variant == "code":
                y = float(c == 0)
                weight = (p + y) ** gamma - y
            else:
                weight = (1 + p) ** gamma if c == 0 else p
            total -= weight * math.log(q)
        assert found == pytest.approx(total, rel=1e-9)


def test_the_losses_of_several_teachers_are_averaged() -> None:
    scores, soft, present = case(4)
    several = torch.stack([soft, -soft, 2 * soft])
    mean = torch.stack([ofa_loss(scores, one, present, 1.3) for one in several]).mean(0)
    torch.testing.assert_close(ofa_loss(scores, several, present, 1.3), mean, rtol=1e-12, atol=0)


def test_each_of_several_teachers_may_know_other_items() -> None:
    scores, soft, present = case(4)
    several, known = torch.stack([soft, -soft]), torch.stack([present, ~present])
    alone = torch.stack([ofa_loss(scores, one, there, 1.3) for one, there in zip(several, known)])
    heard = torch.ones(2, len(scores), dtype=torch.bool)
    heard[1, :2] = False
    expected = torch.where(heard[1], alone.mean(0), alone[0])
    torch.testing.assert_close(ofa_loss(scores, several, known, 1.3, "code", heard), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_what_is_not_there_counts_for_nothing_and_learns_nothing(variant) -> None:
    scores, soft, present = case(5)
    present[2] = False
    scores.requires_grad_()
    loss = ofa_loss(scores, soft, present, 1.3, variant)
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    assert loss[2] == 0
    assert not gradient[~present].any()
    assert gradient[present].any()
    changed = scores.detach() + 50 * ~present
    torch.testing.assert_close(ofa_loss(changed, soft - 40 * ~present, present, 1.3, variant), loss)
