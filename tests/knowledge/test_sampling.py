"""Draws from lists: their distribution, and what may never be drawn."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_outside, draw_without_replacement


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_without_replacement_have_the_distribution_of_multinomial() -> None:
    weights = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])
    n = 40_000
    drawn = draw_without_replacement(weights.log().expand(n, -1), 2, generator())
    reference = torch.multinomial(weights.expand(n, -1), 2, generator=generator(1)).sort(dim=1).values
    pairs, expected = (torch.bincount(part[:, 0] * 5 + part[:, 1], minlength=25) / n for part in (drawn, reference))
    assert (drawn[:, 0] < drawn[:, 1]).all()
    torch.testing.assert_close(pairs, expected, atol=0.012, rtol=0)


def test_what_has_no_weight_comes_last_if_at_all() -> None:
    weights = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]]).expand(50, -1)
    assert (draw_without_replacement(weights, 2, generator()) == torch.tensor([0, 2])).all()


def test_draws_by_rank_keep_the_order_favour_the_first_and_never_repeat() -> None:
    lists = torch.arange(1, 101).expand(4000, -1)
    drawn = draw_by_rank(lists, 10, 10.0, generator())
    assert (drawn.diff(dim=1) > 0).all()
    weights = torch.exp(-torch.arange(100) / 10.0)
    expected = torch.multinomial(weights.expand(4000, -1), 10, generator=generator(1)).float().mean() + 1
    assert drawn.float().mean().item() == pytest.approx(expected.item(), abs=0.4)


def test_short_lists_give_all_they_have_and_padding_stands_at_the_end() -> None:
    lists = torch.tensor([[5, 0, 7, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    drawn = draw_by_rank(lists, 3, 5.0, generator())
    assert drawn[0].tolist() == [5, 7, 0]
    assert drawn[1].tolist() == [0, 0, 0]
    assert (drawn[2] > 0).all()


def test_draws_outside_are_uniform_over_what_is_left() -> None:
    excluded = torch.tensor([[1, 2, 0, 5], [0, 0, 0, 0]])
    drawn = draw_outside(excluded, 30_000, 8, generator())
    counts = torch.stack([torch.bincount(row, minlength=8) for row in drawn]) / 30_000
    torch.testing.assert_close(counts[0], torch.tensor([0, 0, 0, 1, 1, 0, 1, 1]) / 4, atol=0.01, rtol=0)
    torch.testing.assert_close(counts[1], torch.tensor([0, 1, 1, 1, 1, 1, 1, 1]) / 7, atol=0.01, rtol=0)


def test_a_row_that_leaves_nothing_keeps_padding() -> None:
    assert not draw_outside(torch.arange(1, 6)[None], 4, 6, generator()).any()


def test_what_is_refused_is_never_drawn() -> None:
    excluded = torch.tensor([[1, 2], [3, 0]])
    drawn = draw_outside(excluded, 5_000, 8, generator(), rounds=99, refused=lambda rows, items: items % 2 == 0)
    assert [row.unique().tolist() for row in drawn] == [[3, 5, 7], [1, 5, 7]]


def test_what_is_refused_may_differ_by_row() -> None:
    excluded = torch.tensor([[1, 2], [3, 0], [0, 0]])
    drawn = draw_outside(excluded, 5_000, 8, generator(), rounds=99, refused=lambda rows, items: items % 3 == rows)
    assert [row.unique().tolist() for row in drawn] == [[4, 5, 7], [2, 5, 6], [1, 3, 4, 6, 7]]


def test_equal_seeds_give_equal_draws() -> None:
    lists = torch.arange(1, 51).expand(6, -1)
    assert torch.equal(draw_by_rank(lists, 5, 10.0, generator(3)), draw_by_rank(lists, 5, 10.0, generator(3)))
