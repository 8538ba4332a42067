"""Neighbours, changed histories and ridge fold-in against loops and known answers."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.knowledge.pseudo_users import nearest_neighbours, packed, perturbed, ridge_fold_in


def test_neighbours_equal_a_loop_in_blocks_of_any_size() -> None:
    torch.manual_seed(1)
    rows = torch.randn(11, 3)
    found = nearest_neighbours(rows, 4, block=3)
    for index, row in enumerate(rows):
        near = {other: float(torch.cosine_similarity(row, rows[other], dim=0)) for other in range(1, 11) if other != index}
        assert found[index].tolist() == sorted(near, key=near.get, reverse=True)[:4]
    assert nearest_neighbours(rows, 50, block=4).shape == (11, 9)


def test_histories_change_as_often_as_asked() -> None:
    generator = torch.Generator().manual_seed(1)
    histories = torch.arange(1, 11).repeat(4000, 1)
    histories[:, 8:] = 0
    neighbours = 100 + torch.arange(11)[:, None].repeat(1, 3)
    made = perturbed(histories, 50 + histories, neighbours, generator, drop=0.2, replace=0.3, mix=0.25)
    own, mixed = made[:, :10], made[:, 10:]
    assert not own[:, 8:].any()
    assert (own[:, :8] == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (own[:, :8] > 100).float().mean().item() == pytest.approx(0.8 * 0.3, abs=0.01)
    assert torch.equal(own[own > 100] - 100, histories[own > 100])
    assert (mixed[:, :8] > 0).float().mean().item() == pytest.approx(0.25 / 2, abs=0.01)
    assert (mixed.sum(1) > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_packed_histories_hold_the_same_items_without_gaps() -> None:
    histories = torch.tensor([[0, 7, 0, 3, 0], [0, 0, 0, 0, 0], [2, 0, 9, 0, 4]])
    assert packed(histories).tolist() == [[7, 3, 0], [0, 0, 0], [9, 4, 2]]
    assert packed(torch.zeros(2, 4, dtype=torch.int64)).shape == (2, 0)


def test_fold_in_is_ridge_regression_on_the_items_present() -> None:
    torch.manual_seed(1)
    rows, present = torch.randn(2, 5, 3).double(), torch.tensor([[True, True, False, True, True], [False] * 5])
    kept = rows[0][present[0]]
    by_hand = torch.linalg.inv(kept.T @ kept + 0.1 * torch.eye(3).double()) @ kept.T @ torch.ones(4).double()
    found = ridge_fold_in(rows, present, 0.1)
    assert torch.allclose(found[0], by_hand)
    assert not found[1].any()
