"""The sampled log-mass: unbiased, its lists exact, and of the losses that the full catalogue gives in the limit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbole_hetcomp.losses import Dense, Sampled, fine_ranking_loss, log_mass
from recbole_hetcomp.losses.sampling import draw, popularity_proposal

N_USERS, N_ITEMS = 4, 60


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """(scores [B, I] with a gradient, excluded [B, n] padded, proposal [I])"""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(N_USERS, N_ITEMS, generator=generator, dtype=torch.float64).requires_grad_()
    excluded = torch.stack([torch.randperm(N_ITEMS - 1, generator=generator)[:9] + 1 for _ in range(N_USERS)])
    excluded[1, 4:] = 0
    return scores, excluded, popularity_proposal(torch.randint(0, 50, (N_ITEMS,), generator=generator))


def sampled(scores: Tensor, q: Tensor, n: int, seed: int) -> Sampled:
    items, log_q = draw(q, n, torch.Generator().manual_seed(seed))
    return Sampled(lambda listed: scores.gather(1, listed), items, log_q.double())


def test_the_mass_is_unbiased_and_so_is_its_gradient() -> None:
    scores, excluded, q = problem()
    n_draws, n_trials = 40, 4000
    generator = torch.Generator().manual_seed(1)
    masses = []
    for _ in range(n_trials):
        items, log_q = draw(q, n_draws, generator)
        masses.append(Sampled(lambda listed: scores.gather(1, listed), items, log_q.double()).log_mass(excluded).exp())
    estimate, exact = torch.stack(masses), log_mass(scores, excluded).exp()
    deviation = estimate.std(0) / n_trials**0.5
    assert ((estimate.mean(0) - exact).abs() < 4 * deviation).all()
    (found,) = torch.autograd.grad(estimate.mean(0).sum(), scores)
    (expected,) = torch.autograd.grad(exact.sum(), scores)
    assert (found - expected).abs().max() < 0.1 * expected.max()
    assert not found[0, excluded[0]].any()


def test_without_the_correction_by_log_q_it_would_be_biased() -> None:
    scores, excluded, q = problem()
    uncorrected = sampled(scores, q, 20_000, 0)
    uncorrected = Sampled(
        uncorrected.score, uncorrected.items, torch.full_like(uncorrected.log_q, -torch.tensor(59.0).log())
    )
    exact = log_mass(scores, excluded)
    assert (sampled(scores, q, 20_000, 0).log_mass(excluded) - exact).abs().max() < 0.05
    assert (uncorrected.log_mass(excluded) - exact).abs().max() > 0.1


def test_the_bias_of_the_logarithm_falls_with_the_number_of_draws() -> None:
    scores, excluded, q = problem()
    exact = log_mass(scores, excluded)
    bias = {
        n: (torch.stack([sampled(scores, q, n, seed).log_mass(excluded) for seed in range(1500)]).mean(0) - exact)
        .mean()
        .item()
        for n in (16, 128)
    }
    assert abs(bias[128]) < 0.3 * abs(bias[16])


def test_the_lists_are_exact_and_padding_and_excluded_items_have_no_mass() -> None:
    scores, excluded, q = problem()
    catalogue = sampled(scores, q, 30, 0)
    assert torch.equal(catalogue.listed(excluded).scores, Dense(scores).listed(excluded).scores)
    everything = torch.arange(1, N_ITEMS).expand(N_USERS, -1)
    assert (catalogue.log_mass(everything) == -torch.inf).all()
    assert (draw(q, 10_000, torch.Generator().manual_seed(0))[0] > 0).all()


def test_the_loss_comes_near_that_of_the_full_catalogue() -> None:
    scores, excluded, q = problem()
    history, targets = excluded[:, :4], excluded[:, 4:]
    lists = (targets, history[:, :2], history)
    exact = fine_ranking_loss(Dense(scores), *lists)
    torch.testing.assert_close(fine_ranking_loss(sampled(scores, q, 20_000, 3), *lists), exact, rtol=0.02, atol=0.02)


def test_draws_follow_the_proposal_and_name_their_probability() -> None:
    q = popularity_proposal(torch.tensor([0, 0, 15, 80]))
    assert q.tolist() == pytest.approx([0.0, 1 / 36, 8 / 36, 27 / 36])
    items, log_q = draw(q, 50_000, torch.Generator().manual_seed(0))
    assert (torch.bincount(items, minlength=4) / 50_000).tolist() == pytest.approx(q.tolist(), abs=0.01)
    assert torch.equal(log_q, q[items].log().float())
