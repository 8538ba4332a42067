"""The policy's mathematics: its gradient against an enumeration of all actions, and each feature against a loop."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from recbole_hetcomp.knowledge.selection import (
    LEAST,
    MOST,
    START,
    DelayedReward,
    consensus,
    evidence,
    policy_loss,
    probabilities,
    standardised,
    starting_logit,
)
from recbole_hetcomp.model.lists_student import membership

N_TEACHERS, N_DRAWS = 3, 40_000


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("free", [[True, True, True], [True, False, True]])
def test_the_drawn_gradient_is_that_of_the_expected_reward(seed, free) -> None:
    """Over all 2^3 sets of teachers the expected reward and its gradient are sums; the estimate is within 3 standard errors.

    The reward of a set is any number at all. What is not free is selected always.
    """
    logits = random(N_TEACHERS, seed=seed).requires_grad_()
    free = torch.tensor(free)
    reward = {
        actions: float(random(1, seed=100 * seed + i)) for i, actions in enumerate(itertools.product((0, 1), repeat=3))
    }
    p = torch.where(free, probabilities(logits), 1.0)
    expected = sum(
        value * torch.stack([p[m] if taken else 1 - p[m] for m, taken in enumerate(actions)]).prod()
        for actions, value in reward.items()
    )
    exact = torch.autograd.grad(expected, logits)[0]

    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(N_DRAWS, N_TEACHERS, generator=generator) < probabilities(logits.detach())) | ~free
    rewards = torch.tensor([reward[tuple(row)] for row in drawn.int().tolist()], dtype=torch.float64)
    each = logits.detach().expand(N_DRAWS, -1).requires_grad_()
    policy_loss(probabilities(each), drawn, free.expand(N_DRAWS, -1), rewards).backward()
    estimates = -each.grad * N_DRAWS  # one a draw
    error = estimates.std(0) / math.sqrt(N_DRAWS)
    assert ((estimates.mean(0) - exact).abs() <= 3 * error).all()
    assert exact.abs().max() > 10 * error.max()  # so that a gradient of 0, or of the wrong sign, would be found


def test_a_constant_reward_that_is_standardised_moves_nothing() -> None:
    p = probabilities(random(6, 3)).requires_grad_()
    everywhere = torch.ones(6, 3, dtype=torch.bool)
    advantages = standardised(torch.full((6,), 0.3, dtype=torch.float64), everywhere[:, 0])
    loss = policy_loss(p, p > 0.5, everywhere, advantages)
    assert not torch.autograd.grad(loss, p)[0].any()


def test_probabilities_stay_where_something_can_still_be_learned() -> None:
    logits = torch.tensor([-30.0, starting_logit(), 30.0], requires_grad=True)
    p = probabilities(logits)
    assert p.tolist() == pytest.approx([LEAST, START, MOST], abs=1e-6)
    for limit in (LEAST, MOST):  # the rarest action still has a finite log-probability
        assert math.isfinite(math.log(limit * (1 - limit)))


def test_standardised_values_against_a_loop_and_without_absent_rows() -> None:
    values, present = random(9, 2, 3, seed=5), random(9, 2, 1, seed=6) > -0.5
    values[:, 1, 2] = 7.1  # a constant column
    found = standardised(values.masked_fill(~present, 1e6), present)
    assert torch.equal(found, standardised(values, present))
    for m, f in itertools.product(range(2), range(3)):
        column = values[present[:, m, 0], m, f].tolist()
        mean = math.fsum(column) / len(column)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in column) / len(column))
        expected = [0.0 if (m, f) == (1, 2) else (x - mean) / deviation for x in column]
        assert found[present[:, m, 0], m, f].tolist() == pytest.approx(expected, abs=1e-9)
    assert not found[~present.expand_as(found)].any()
    assert not standardised(values[:1], present[:1]).any()  # a single user
    assert not standardised(values, torch.zeros_like(present)).any()


def test_the_consensus_against_sets() -> None:
    generator = torch.Generator().manual_seed(2)
    items = torch.stack([torch.randperm(12, generator=generator)[:5] + 1 for _ in range(60)]).view(15, 4, 5)
    items[2, 1] = items[3, :] = 0
    items[4, 0, 2:] = 0
    items[5, 1:] = 0
    found = consensus(membership(items), 4)
    for row, expected in zip(items.tolist(), found.tolist()):
        sets = [{item for item in ranked if item} for ranked in row]
        for m, own in enumerate(sets):
            others = [other for n, other in enumerate(sets) if n != m and other]
            share = math.fsum(len(own & other) for other in others) / len(own) / len(others) if own and others else 0.0
            assert expected[m] == pytest.approx(share, abs=1e-6)


def test_the_evidence_against_a_loop() -> None:
    scores, lists = random(4, 20, seed=8), torch.tensor([[3, 5, 9], [2, 0, 0], [0, 0, 0], [7, 1, 0]])
    known = torch.tensor([[1, 2], [4, 0], [0, 0], [8, 9]])
    found = evidence(scores.gather(1, lists), lists > 0, scores.gather(1, known), known > 0, scores[:, 1:].logsumexp(1))
    for row, ranked, positives, (entropy, log_p) in zip(scores.tolist(), lists.tolist(), known.tolist(), found.tolist()):
        listed = [math.exp(row[item]) for item in ranked if item]
        shares = [x / math.fsum(listed) for x in listed]
        assert entropy == pytest.approx(-math.fsum(x * math.log(x) for x in shares), abs=1e-9)
        total = math.log(math.fsum(math.exp(x) for x in row[1:]))
        terms = [row[item] - total for item in positives if item]
        assert log_p == pytest.approx(math.fsum(terms) / max(len(terms), 1), abs=1e-9)


@pytest.mark.parametrize("gain", [0.25, -0.25])
def test_a_delayed_reward_makes_the_actions_before_a_gain_more_likely_and_before_a_loss_less(gain) -> None:
    policy = nn.Linear(2, 1, bias=False).double()
    delayed, x = DelayedReward(2), torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    delayed.settle(0.5)
    taken = [torch.tensor(x) for x in (1.0, 1.0, 0.0)]  # how far the action is the likely one
    for _ in taken:
        delayed.note(probabilities(policy(x)).log().sum(), policy)
    copy = DelayedReward(2)
    copy.load(delayed.state())
    for reward in (delayed, copy):
        reward.settle(0.5 + gain)
    assert torch.equal(copy.direction, delayed.direction)
    assert not delayed.credit.any()
    assert delayed.steps == 0
    before = probabilities(policy(x)).item()
    policy.zero_grad()
    delayed.reward(policy).backward()
    with torch.no_grad():
        policy.weight += 0.1 * policy.weight.grad
    assert (probabilities(policy(x)).item() > before) == (gain > 0)
    with pytest.raises(ValueError, match="another policy"):
        DelayedReward(3).load(delayed.state())


@pytest.mark.parametrize("unit", [1.0, 1e-3, 40.0])
def test_a_gain_counts_as_its_share_of_the_largest_so_far_whatever_the_metric(unit) -> None:
    """So that it stands beside rewards of deviation 1. A score that has never moved says nothing."""
    policy = nn.Linear(2, 1, bias=False).double()
    delayed, x = DelayedReward(2), random(3, 2, seed=1)
    gains = [None, 0.0, 0.01, 0.0, -0.04, 0.02, 0.004]  # the first score has none before it
    shares = [0.0, 0.0, 1.0, 0.0, -1.0, 0.5, 0.1]
    score = 0.3
    for gain, share in zip(gains, shares):
        gradients = torch.zeros(2, dtype=torch.float64)
        for row in x:
            log_p = probabilities(policy(row)).log().sum()
            gradients += torch.autograd.grad(log_p, policy.weight, retain_graph=True)[0][0]
            delayed.note(log_p, policy)
        score += gain or 0.0
        delayed.settle(unit * score)
        torch.testing.assert_close(delayed.direction, share * gradients / len(x), rtol=1e-6, atol=1e-9)
        resumed = DelayedReward(2)
        resumed.load(delayed.state())
        delayed = resumed
