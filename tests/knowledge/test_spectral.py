"""Spectral factors against the full decomposition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbole_hetcomp.knowledge.spectral import spectral_factors


def matrix(n_users: int = 90, n_items: int = 70) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(n, min(n_users, n_items), generator=generator, dtype=torch.float64) for n in (n_users, n_items)]
    left, right = (torch.linalg.qr(side).Q for side in sides)
    return left * torch.exp(-torch.arange(left.size(1)) / 6.0) @ right.T


def factors(scores: Tensor, rank: int, block: int = 17) -> tuple[Tensor, Tensor]:
    return spectral_factors(lambda: scores.split(block), scores.size(1), rank, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rank", [1, 8, 30])
def test_what_is_lost_is_the_sum_of_the_discarded_squared_singular_values(rank: int) -> None:
    scores = matrix()
    users, items = factors(scores, rank)
    lost = (scores - users.double() @ items.double().T).square().sum()
    discarded = torch.linalg.svdvals(scores)[rank:].square().sum()  # Eckart and Young
    assert lost.item() == pytest.approx(discarded.item(), rel=1e-3, abs=1e-10)


def test_both_sides_carry_the_same_share_of_the_singular_values() -> None:
    users, items = factors(matrix(), 6)
    for side in (users, items):
        torch.testing.assert_close(
            (side.T @ side), torch.diag(torch.linalg.svdvals(matrix())[:6]).float(), atol=1e-5, rtol=1e-4
        )


def test_blocks_of_rows_change_nothing_and_a_rank_beyond_the_matrix_gives_all_of_it() -> None:
    scores = matrix(20, 12)
    users, items = factors(scores, 50, block=3)
    assert users.shape == (20, 12)
    torch.testing.assert_close(users @ items.T, scores.float(), atol=1e-5, rtol=1e-4)
    again = factors(scores, 50)
    torch.testing.assert_close(users @ items.T, again[0] @ again[1].T)


@pytest.mark.parametrize("power_iterations", [0, 3])
def test_the_matrix_is_read_once_an_iteration_and_once_more(power_iterations: int) -> None:
    scores, passes = matrix(), []

    def rows() -> tuple[Tensor, ...]:
        passes.append(1)
        return scores.split(17)

    spectral_factors(rows, scores.size(1), 8, torch.Generator().manual_seed(1), power_iterations)
    assert len(passes) == power_iterations + 1
