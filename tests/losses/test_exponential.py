"""exp of numbers far below 0: no result between 0 and the smallest normal number, which would be slow, and the same sums."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recbole_hetcomp.losses import plackett_luce_loss
from recbole_hetcomp.losses.exponential import exp_floor, log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor
from recbole_hetcomp.losses.streaming import _may_be_far, log_mass

WIDTHS = [1.0, 90.0, 1e4]  # of the scores: the exps are all normal, some subnormal, nearly all 0


def subnormal(values: Tensor) -> Tensor:
    return (values != 0) & (values.abs() < torch.finfo(values.dtype).tiny)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_floor_is_a_normal_number_of_which_a_billion_are_lost_beside_one(dtype: torch.dtype) -> None:
    least = torch.tensor(exp_floor(dtype), dtype=torch.float64).exp()
    if dtype != torch.float16:  # whose exponents do not go so far
        assert least > torch.finfo(dtype).tiny
    assert 1e9 * least < torch.finfo(dtype).eps ** 2


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shape", [(4, 300), (4, 3, 100)])
def test_log_sum_exp_and_its_gradient_equal_torchs_in_double_precision(width: float, shape: tuple[int, ...]) -> None:
    scores = width * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scores[0, ..., 5:] = -torch.inf
    scores[1] = log_floor(scores)
    ours, theirs = scores.requires_grad_(), scores.detach().double().requires_grad_()
    dim = len(shape) - 1
    found, expected = log_sum_exp(ours, dim), theirs.logsumexp(dim)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    found.sum().backward()
    expected.sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-12 + 1e-7 * width)
    assert not subnormal(ours.grad).any()


def test_no_number_and_nothing_at_all_stay_what_they_are() -> None:
    found = log_sum_exp(torch.tensor([[0.0, torch.nan], [-torch.inf, -torch.inf], [torch.inf, 0.0]]))
    assert found[0].isnan()
    assert found[1:].tolist() == [-torch.inf, torch.inf]
    assert torch.equal(log_sum_exp(torch.zeros(2, 0)), torch.full((2,), -torch.inf))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_catalogues_exps_are_normal_numbers_or_zero_and_their_sums_are_right(width: float) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (math.sqrt(width) * torch.randn(n, 6, generator=generator) for n in (40, 900))
    excluded = torch.randint(1, 900, (40, 30), generator=generator)
    users, items = users.requires_grad_(), items.requires_grad_()
    mass = log_mass(users, items, excluded)
    for exps in mass.grad_fn.saved_tensors[4:]:  # type: ignore[union-attr]
        assert not subnormal(exps).any()
        assert (exps.T.gather(1, excluded) == 0).all()  # what is left out holds no mass at all

    plain_users, plain_items = (tensor.detach().double().requires_grad_() for tensor in (users, items))
    scores = plain_users @ plain_items.T
    left_out = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, excluded, True)
    left_out[:, 0] = True
    expected = scores.masked_fill(left_out, -torch.inf).logsumexp(1)
    torch.testing.assert_close(mass.double(), expected, rtol=1e-6, atol=1e-5)
    mass.sum().backward()
    expected.sum().backward()
    for ours, theirs in ((users, plain_users), (items, plain_items)):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-4 * width)


@pytest.mark.parametrize("gap", [30.0, 40.0, 45.0, 56.0, 68.0, 90.0, 300.0])
def test_what_is_far_below_an_item_that_is_left_out_still_counts(gap: float) -> None:
    """`base` is the best item's score, left out or not: what is left is `gap` below it, and most of it far below that."""
    users, items = torch.ones(3, 1), torch.full((25_000, 1), -1000.0)
    items[1], items[7] = 0.0, -gap  # the first is among those that the largest score is guessed from
    mass = log_mass(users, items, torch.ones(3, 1, dtype=torch.int64))
    assert mass.tolist() == pytest.approx([-gap] * 3, abs=1e-5)


@pytest.mark.parametrize(("user", "item", "base", "far"), [(1.0, -90.0, 0.0, True), (1.0, -70.0, 0.0, False),
                                                        (1.0, -70.0, 20.0, True), (1.0, -90.0, -20.0, False)])  # fmt: skip
def test_a_score_may_be_far_where_the_vectors_lengths_and_the_base_allow_it(
    user: float, item: float, base: float, far: bool
) -> None:
    users, items = torch.tensor([[0.0, 0.1], [0.0, user]]), torch.tensor([[0.0, 0.5], [0.0, item]])
    assert _may_be_far(users, items, torch.tensor([base, base])) == far


def test_a_far_tail_gets_no_gradient_from_a_list() -> None:
    ranked = torch.tensor([[5.0, 3.0, 1.0]], requires_grad=True)
    tail = torch.tensor([-95.0], requires_grad=True)
    plackett_luce_loss(ranked, tail).backward()
    assert tail.grad is not None
    assert tail.grad == 0
