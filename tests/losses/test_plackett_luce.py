"""The two list losses against loops, probabilities that must add up, and scores at the edge."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_hetcomp.losses import plackett_luce_loss, unordered_loss

LOSSES = [plackett_luce_loss, unordered_loss]


def slow_plackett_luce(scores: list[float], tail: float) -> float:
    loss = 0.0
    for k, score in enumerate(scores):
        below = math.exp(tail) + math.fsum(math.exp(other) for other in scores[k:])
        loss += math.log(below) - score
    return loss


def slow_unordered(scores: list[float], tail: float) -> float:
    return sum(math.log(1 + math.exp(tail - score)) for score in scores)


def random_case(seed: int, n_rows: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(n_rows, n, generator=generator, dtype=torch.float64)
    tail = 4 * torch.randn(n_rows, generator=generator, dtype=torch.float64)
    tail = tail.masked_fill(torch.rand(n_rows, generator=generator) < 0.2, -math.inf)
    return scores, tail, torch.rand(n_rows, n, generator=generator) < 0.7


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(1, 6), n=st.integers(0, 12))
@pytest.mark.parametrize(("loss", "slow"), [(plackett_luce_loss, slow_plackett_luce), (unordered_loss, slow_unordered)])
def test_loss_equals_a_loop_over_the_items_present(loss, slow, seed: int, n_rows: int, n: int) -> None:  # type: ignore[no-untyped-def]
    scores, tail, mask = random_case(seed, n_rows, n)
    for present in (mask, None):
        kept = torch.ones_like(mask) if present is None else mask
        expected = [slow(row[keep].tolist(), below) for row, keep, below in zip(scores, kept, tail.tolist())]
        found = loss(scores, tail, present)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        assert (found >= 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_probabilities_of_all_orders_add_up_to_one(n: int) -> None:
    scores = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(n))))
    no_tail = torch.full((len(orders),), -math.inf, dtype=torch.float64)
    assert torch.exp(-plackett_luce_loss(scores[orders], no_tail)).sum().item() == pytest.approx(1.0, abs=1e-12)


def test_one_item_and_a_tail_are_a_softmax_cross_entropy() -> None:
    logits = torch.randn(7, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(7, dtype=torch.long), reduction="none")
    found = plackett_luce_loss(logits[:, :1], logits[:, 1:].logsumexp(1))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_equals_finite_differences(loss) -> None:  # type: ignore[no-untyped-def]
    scores, _, mask = random_case(3, 4, 6)
    tail = torch.tensor([-2.0, 0.0, 1.0, 5.0], dtype=torch.float64, requires_grad=True)
    mask[1] = False
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t, mask), (scores, tail))
    assert torch.autograd.gradcheck(loss, (scores, tail))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_are_finite_at_the_edge(loss, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    high, low = [200.0, 200.0, -200.0], [-200.0, -200.0, 200.0]
    scores = torch.tensor([high, low, high, low, high, low, high], dtype=dtype, requires_grad=True)
    tail = torch.tensor([200.0, 200.0, -200.0, -200.0, -math.inf, -math.inf, 1000.0], dtype=dtype, requires_grad=True)
    for mask in (None, torch.zeros(7, 3, dtype=torch.bool), torch.tensor([[True, False, True]]).expand(7, 3)):
        value = loss(scores, tail, mask)
        gradients = torch.autograd.grad(value.sum(), (scores, tail))
        assert value.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert loss(scores, tail)[0] > 390  # an item 400 below the tail costs as much


def test_gradient_is_right_even_where_scores_are_far_apart() -> None:
    scores = torch.tensor([[-150.0, 150.0, 0.0]], requires_grad=True)
    tail = torch.tensor([20.0], requires_grad=True)
    gradients = torch.autograd.grad(plackett_luce_loss(scores, tail).sum(), (scores, tail))
    # By hand: the second item holds all mass at the first and second draw, the tail at the third.
    torch.testing.assert_close(gradients[0], torch.tensor([[-1.0, 1.0, -1.0 + math.exp(-20)]]), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients[1], torch.tensor([1.0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_masked_slots_have_no_gradient_and_no_influence(loss) -> None:  # type: ignore[no-untyped-def]
    scores, tail, mask = random_case(5, 6, 8)
    scores.requires_grad_()
    value = loss(scores, tail, mask)
    gradient = torch.autograd.grad(value.sum(), scores)[0]
    assert (gradient[~mask] == 0).all()
    assert (gradient[mask & (tail[:, None] > -math.inf)] != 0).all()
    assert torch.equal(loss(scores.masked_fill(~mask, 1e6), tail, mask), value)
    assert torch.equal(loss(scores.masked_fill(~mask, -math.inf), tail, mask), value)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_empty_list_costs_nothing(loss) -> None:  # type: ignore[no-untyped-def]
    tail = torch.tensor([0.0, -math.inf, 30.0], requires_grad=True)
    value = loss(torch.zeros(3, 0), tail)
    assert value.tolist() == [0.0, 0.0, 0.0]
    value.sum().backward()
    assert tail.grad is None or not tail.grad.any()
    assert loss(torch.ones(3, 4), tail, torch.zeros(3, 4, dtype=torch.bool)).tolist() == [0.0, 0.0, 0.0]


def test_only_plackett_luce_sees_the_order_and_rows_do_not_mix() -> None:
    scores, tail, _ = random_case(9, 5, 6)
    tail = tail.clamp(min=-1.0)
    torch.testing.assert_close(unordered_loss(scores.flip(1), tail), unordered_loss(scores, tail))
    sorted_scores = scores.sort(1, descending=True)[0]
    assert (plackett_luce_loss(sorted_scores, tail) < plackett_luce_loss(sorted_scores.flip(1), tail)).all()
    for loss in LOSSES:
        apart = torch.cat([loss(scores[:2], tail[:2]), loss(scores[2:], tail[2:])])
        torch.testing.assert_close(loss(scores, tail), apart, rtol=1e-12, atol=0)
