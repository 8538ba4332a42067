"""Lists from scores, of items and of groups: against a dense argsort, in blocks of any size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from recbole_hetcomp.data.history import History
from recbole_hetcomp.teachers.item_lists import by_item, top_items_of_groups, top_users

N_USERS, N_ITEMS = 23, 31


@pytest.fixture
def history() -> History:
    """Users 1 to 20 have items, 21 and 22 none; item 30 is every such user's."""
    generator = torch.Generator().manual_seed(0)
    users = torch.arange(1, 21).repeat_interleave(6)
    items = torch.randint(1, N_ITEMS, users.shape, generator=generator)
    everybody = torch.arange(1, 21)
    return History(torch.cat([users, everybody]), torch.cat([items, torch.full_like(everybody, 30)]), N_USERS, N_ITEMS)


def with_scores(scores: torch.Tensor, max_block_mb: float) -> SimpleNamespace:
    asked: list[int] = []

    def of(users: torch.Tensor) -> torch.Tensor:
        asked.append(len(users))
        return scores[users]

    without_list = torch.zeros(N_USERS, dtype=torch.bool)
    return SimpleNamespace(scores=of, max_block_mb=max_block_mb, asked=asked, without_list=without_list)


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("users_at_once", [1, 3, 100])
def test_the_lists_equal_a_dense_argsort(history: History, k: int, users_at_once: int) -> None:
    scores = torch.randn(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(1))
    teacher = with_scores(scores, users_at_once * 4 * N_ITEMS / 2**20)
    lists = top_users(teacher, history, k)
    assert max(teacher.asked) <= users_at_once
    assert lists.shape == (N_ITEMS, k)
    assert not lists[0].any()
    assert not lists[30].any()  # everybody has it
    for item in range(1, N_ITEMS):
        order = scores[:, item].argsort(descending=True).tolist()
        free = [u for u in order if u in history.active_users.tolist() and item not in history.padded(torch.tensor([u]))]
        assert lists[item].tolist() == (free + [0] * k)[:k]


@pytest.mark.parametrize("users_at_once", [1, 100])
def test_the_lists_of_groups_equal_a_dense_argsort(history: History, users_at_once: int) -> None:
    scores = torch.randn(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(1))
    groups = [torch.tensor([30, 2, 9]), torch.arange(10, 25)]
    lists = top_items_of_groups(with_scores(scores, users_at_once * 4 * N_ITEMS / 2**20), history, groups, 8)
    assert [table.shape for table in lists] == [(N_USERS, 3), (N_USERS, 8)]
    assert not any(table[user].any() for table in lists for user in (0, 21, 22))
    for user in history.active_users.tolist():
        trained = history.padded(torch.tensor([user]))[0].tolist()
        for group, table in zip(groups, lists):
            free = sorted(set(group.tolist()) - set(trained), key=lambda item: -scores[user, item].item())
            assert table[user].tolist() == (free + [0] * 8)[: table.size(1)]


def test_pairs_are_the_same_from_both_sides(history: History) -> None:
    other = by_item(history)
    users, items = torch.meshgrid(torch.arange(1, N_USERS), torch.arange(1, N_ITEMS), indexing="ij")
    assert torch.equal(history.contains(users, items), other.contains(items, users))
    assert (other.n_users, other.n_items) == (N_ITEMS, N_USERS)


def test_a_user_of_whom_the_teacher_knows_nothing_is_in_no_list(history: History) -> None:
    scores = torch.randn(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(1)) - 3
    scores[5] = 0.0  # above nearly all others
    teacher = with_scores(scores, 1.0)
    assert (top_users(teacher, history, 3) == 5).any()
    teacher.without_list[5] = True
    assert not (top_users(teacher, history, 3) == 5).any()
    assert not top_items_of_groups(teacher, history, [torch.arange(10, 25)], 8)[0][5].any()
