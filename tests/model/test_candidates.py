"""Candidates: a training item, items of the list by rank, and others; the draws are the generator's alone."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.model.candidates import Candidates


@pytest.fixture
def draw(split, list_pool):
    """`draw(seed, **sizes)`: (candidates of all active users, their lists)."""
    lists = list_pool(1).teachers[0].trajectory.items[-1]

    def drawn(seed: int, **sizes):
        users = split.history.active_users
        sizes = {"n_top": 5, "n_random": 7, "temperature": 10.0, **sizes}
        drawn = Candidates.of(split.history, **sizes).from_lists(lists, users, torch.Generator().manual_seed(seed))
        return drawn, lists[users]

    return drawn


def test_they_are_a_training_item_items_of_the_list_and_others(draw, split) -> None:
    found, lists = draw(3)
    assert found.shape == (len(split.history.active_users), 13)
    for user, row, listed in zip(split.history.active_users.tolist(), found.tolist(), lists.tolist()):
        trained = set(split.history.padded(torch.tensor([user]))[0].tolist()) - {0}
        assert row[0] in trained
        places = [listed.index(item) for item in row[1:6]]
        assert places == sorted(set(places))  # in the list's order, each once
        assert not set(row[6:]) & {0, *trained, *listed}


def test_a_low_temperature_takes_the_first_of_the_list_and_a_high_one_all_alike(draw) -> None:
    first, lists = draw(1, temperature=0.01)
    assert torch.equal(first[:, 1:6], lists[:, :5].long())
    places = torch.cat([(row[1:6, None] == listed).nonzero()[:, 1] for row, listed in zip(*draw(2, temperature=1e6))])
    assert places.float().mean().item() == pytest.approx((lists.size(1) - 1) / 2, rel=0.1)


def test_what_is_not_left_is_padding(draw) -> None:
    """More than the list has, and more than the catalogue has beside it."""
    found, lists = draw(1, n_top=50, n_random=3)
    assert found.size(1) == 1 + lists.size(1) + 3
    assert torch.equal(found[:, 1:-3].sort(1).values, lists.long().sort(1).values)


def test_a_seed_gives_the_same_draws_and_the_global_stream_is_left_alone(draw) -> None:
    torch.manual_seed(0)
    first, _ = draw(7)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(draw(7)[0], first)
    assert not torch.equal(draw(8)[0], first)
