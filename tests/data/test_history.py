"""Histories against a loop over the pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.data.history import History, users_per_block

N_USERS, N_ITEMS = 6, 9
PAIRS = st.lists(st.tuples(st.integers(1, N_USERS - 1), st.integers(1, N_ITEMS - 1)), max_size=40)


def history_of(pairs: list[tuple[int, int]]) -> History:
    users, items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return History(users, items, N_USERS, N_ITEMS)


def rows_of(pairs: list[tuple[int, int]], users: list[int]) -> list[list[int]]:
    """The same by a loop: each user's distinct items in ascending order, 0-padded to the longest among them."""
    items = [sorted({item for user, item in pairs if user == wanted}) for wanted in users]
    width = max(map(len, items), default=0)
    return [row + [0] * (width - len(row)) for row in items]


@given(PAIRS)
def test_contains_knows_the_pairs_and_no_other(pairs) -> None:
    users, items = torch.meshgrid(torch.arange(N_USERS), torch.arange(N_ITEMS), indexing="ij")
    contained = history_of(pairs).contains(users, items)
    assert set(zip(*(ids.tolist() for ids in contained.nonzero(as_tuple=True)))) == set(pairs)


@given(PAIRS, st.lists(st.integers(0, N_USERS - 1), max_size=8))
def test_padded_agrees_with_a_loop__any_users_in_any_order(pairs, users) -> None:
    padded = history_of(pairs).padded(torch.tensor(users, dtype=torch.int64))
    expected = rows_of(pairs, users)
    assert padded.dtype == torch.int64
    assert padded.tolist() == expected


@given(PAIRS)
def test_active_users_are_those_with_a_pair_and_counts_count_distinct_items(pairs) -> None:
    history = history_of(pairs)
    assert history.active_users.tolist() == sorted({user for user, _ in pairs})
    assert history.counts.tolist() == [len({item for u, item in pairs if u == user}) for user in range(N_USERS)]
    assert int(history.counts.sum()) == len(history.items) == len(set(pairs))


@given(PAIRS, st.randoms())
def test_order_and_repetition_of_the_pairs_play_no_role(pairs, random) -> None:
    again = [*pairs, *random.sample(pairs, len(pairs) // 2)]
    random.shuffle(again)
    everyone = torch.arange(N_USERS)
    assert torch.equal(history_of(again).padded(everyone), history_of(pairs).padded(everyone))


def test_a_pair_that_occurs_twice_is_listed_once() -> None:
    assert history_of([(2, 5), (2, 5), (2, 3)]).padded(torch.tensor([2])).tolist() == [[3, 5]]


def test_users_without_items_have_empty_rows__alone_and_beside_others() -> None:
    history = history_of([(5, 8)])  # the pair at the very end of the table
    assert history.padded(torch.tensor([1, 4])).shape == (2, 0)
    assert history.padded(torch.tensor([0, 5, 1])).tolist() == [[0], [8], [0]]


def test_no_pair_at_all_gives_nobody_a_history() -> None:
    history = history_of([])
    assert history.active_users.tolist() == []
    assert history.padded(torch.arange(N_USERS)).shape == (N_USERS, 0)


def test_history_of_a_dataset_is_its_training_part(split) -> None:
    field = split.train.inter_feat
    expected = set(zip(field["user_id"].tolist(), field["item_id"].tolist()))
    users = torch.arange(split.whole.user_num)
    padded = split.history.padded(users)
    found = {(user, item) for user, row in zip(users.tolist(), padded.tolist()) for item in row if item}
    assert found == expected
    assert split.whole.token2id("user_id", "cold") not in split.history.active_users


@pytest.mark.parametrize(("n_items", "mb", "expected"), [(2**18, 64, 64), (2**18, 0.5, 1), (1000, 1, 262)])
def test_users_per_block_fills_the_memory_that_is_allowed(n_items, mb, expected) -> None:
    assert users_per_block(n_items, mb) == expected


def test_drawn_items_are_training_items__each_as_often() -> None:
    history = history_of([(1, 3), (1, 5), (1, 6), (2, 4), (5, 8)])
    drawn = history.drawn(torch.tensor([1] * 6000 + [2, 0, 5]), torch.Generator().manual_seed(1))
    assert drawn[6000:].tolist() == [4, 0, 8]
    assert torch.allclose(drawn[:6000].bincount(minlength=9)[[3, 5, 6]] / 6000, torch.full((3,), 1 / 3), atol=0.03)
    assert set(drawn[:6000].tolist()) == {3, 5, 6}


def test_on_another_device_rows_are_as_long_as_the_longest_history() -> None:
    history = history_of([(1, 3), (1, 5), (1, 6), (2, 4)])
    assert history.padded(torch.tensor([2], device="meta")).shape == (1, 3)
    assert history._rows(torch.tensor([2, 1, 0]), history.longest).tolist() == [[4, 0, 0], [3, 5, 6], [0, 0, 0]]
