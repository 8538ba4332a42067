"""The importance of a rank: the printed values, the boundary cases, and a loop written from the formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hetcomp.knowledge import power_importance, rank_importance


@pytest.mark.parametrize(
    ("rank", "std", "rank_term", "consistency_term"),
    [(0, 20.0, 1.0, 0.8187308), (50, 30.0, 0.0067379, 0.7408182), (99, 10.0, 0.0000502, 0.9048374)],
)
def test_rank_importance_adds_the_two_terms(rank: int, std: float, rank_term: float, consistency_term: float) -> None:
    ranks = torch.tensor([rank])
    assert rank_importance(ranks).item() == pytest.approx(rank_term, abs=5e-8)
    both = rank_importance(ranks, torch.tensor([std])).item()
    assert both == pytest.approx(rank_term + consistency_term, abs=1.5e-7)


@settings(deadline=None)
@given(
    ranks=st.lists(st.integers(-3, 250), min_size=1, max_size=20),
    temperature=st.floats(1.0, 50.0),
    consistency_temperature=st.floats(5.0, 200.0),
    cutoff=st.integers(1, 200),
)
def test_rank_importance_equals_a_loop_over_the_formula(
    ranks: list[int], temperature: float, consistency_temperature: float, cutoff: int
) -> None:
    stds = [1.5 * (rank % 7) for rank in ranks]
    expected = [
        math.exp(-rank / temperature) + math.exp(-std / consistency_temperature) if 0 <= rank < cutoff else 0.0
        for rank, std in zip(ranks, stds)
    ]
    found = rank_importance(
        torch.tensor(ranks),
        torch.tensor(stds, dtype=torch.float64),
        temperature=temperature,
        consistency_temperature=consistency_temperature,
        cutoff=cutoff,
    )
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_rank_importance_ends_at_the_cutoff_and_knows_no_item() -> None:
    importance = rank_importance(torch.tensor([-1, 0, 99, 100, 5000]), torch.zeros(5))
    assert (importance > 0).tolist() == [False, True, True, False, False]
    assert importance[[0, 3, 4]].tolist() == [0.0, 0.0, 0.0]


def test_rank_importance_falls_with_the_rank_and_with_unsteadiness() -> None:
    ranks = torch.arange(100).expand(3, 100)
    importance = rank_importance(ranks, torch.tensor([[0.0], [10.0], [40.0]]))
    assert importance.shape == (3, 100)
    assert (importance.diff(dim=1) < 0).all()
    assert (importance.diff(dim=0) < 0).all()


def test_rank_importance_computes_in_single_precision_from_half_precision_deviations() -> None:
    ranks, std = torch.arange(50), torch.linspace(0, 60, 50).half()
    importance = rank_importance(ranks, std)
    assert importance.dtype == torch.float32
    torch.testing.assert_close(importance, rank_importance(ranks, std.float()), rtol=0, atol=0)
    torch.testing.assert_close(importance.double(), rank_importance(ranks, std.double()), rtol=1e-6, atol=0)


def test_an_unsteadiness_of_nan_at_a_missing_item_does_not_spread() -> None:
    importance = rank_importance(torch.tensor([-1, 200, 3]), torch.tensor([math.nan, math.nan, 0.0]))
    assert importance[:2].tolist() == [0.0, 0.0]
    assert importance[2].item() == pytest.approx(1 + math.exp(-0.3))


@settings(deadline=None)
@given(ranks=st.lists(st.integers(-3, 3000), min_size=1, max_size=20), exponent=st.floats(0.0, 2.0))
def test_power_importance_counts_ranks_from_one(ranks: list[int], exponent: float) -> None:
    expected = [float(rank + 1) ** -exponent if rank >= 0 else 0.0 for rank in ranks]
    found = power_importance(torch.tensor(ranks, dtype=torch.float64), exponent=exponent)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_power_importance_cuts_off_only_when_asked() -> None:
    ranks = torch.tensor([0, 99, 100])
    assert power_importance(ranks).tolist() == pytest.approx([1.0, 100**-0.05, 101**-0.05], rel=1e-6)
    assert power_importance(ranks, cutoff=100).tolist() == pytest.approx([1.0, 0.7943282, 0.0], rel=1e-6)
