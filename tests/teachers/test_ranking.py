"""A model's best items against a loop over users and items."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.data.history import History, users_per_block
from recbole_hetcomp.teachers.ranking import GROUP, full_scores, largest, ranked_history, top_of_block, top_unobserved

N_USERS, N_ITEMS = 7, 12
ONE_USER = 1e-9  # a max_block_mb that leaves one user a block


class Table(torch.nn.Module):
    """Scores from a table; it draws random numbers on the way, as a model with dropout might."""

    USER_ID, ITEM_ID, device, n_items = "user_id", "item_id", torch.device("cpu"), N_ITEMS

    def __init__(self, table: torch.Tensor, flat: bool = False) -> None:
        super().__init__()
        self.table, self.flat, self.sizes = table, flat, []

    def full_sort_predict(self, interaction):
        assert not self.training
        self.sizes.append(len(interaction["user_id"]))
        scores = self.table[interaction["user_id"]] + 0 * torch.rand(1)
        return scores.flatten() if self.flat else scores


@pytest.fixture
def table() -> torch.Tensor:
    return torch.randn(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def history() -> History:
    """User 1 knows nearly everything, user 2 has one item, user 6 none."""
    pairs = [(1, item) for item in range(1, 10)] + [(2, 4), (3, 11), (3, 2), (4, 7), (4, 8), (4, 9), (5, 1)]
    users, items = torch.tensor(pairs).unbind(1)
    return History(users, items, N_USERS, N_ITEMS)


def known(history: History, user: int) -> list[int]:
    return [item for item in history.padded(torch.tensor([user]))[0].tolist() if item]


def best_by_a_loop(scores: torch.Tensor, history: History, k: int) -> list[list[int]]:
    rows = []
    for user in range(history.n_users):
        seen = known(history, user)
        candidates = [item for item in range(1, history.n_items) if item not in seen] if seen else []
        row = sorted(candidates, key=lambda item: -float(scores[user, item]))[:k]
        rows.append(row + [0] * (k - len(row)))
    return rows


@pytest.mark.parametrize("k", [1, 4, N_ITEMS - 1, N_ITEMS + 5])
@pytest.mark.parametrize("flat", [False, True])
def test_top_unobserved_agrees_with_a_loop(table, history, k, flat) -> None:
    top = top_unobserved(Table(table, flat), history, k)
    assert top.dtype == torch.int32
    assert top.tolist() == best_by_a_loop(table, history, k)


def test_padding_and_training_items_are_never_recommended__whatever_their_scores(table, history) -> None:
    table[:, 0] = 1e9
    for user in range(1, N_USERS):
        table[user, known(history, user)] = 1e9
    top = top_unobserved(Table(table), history, N_ITEMS)
    for user in range(N_USERS):
        row = top[user].tolist()
        n_listed = sum(item > 0 for item in row)
        assert not set(row[:n_listed]) & {0, *known(history, user)}
        assert row[n_listed:] == [0] * (len(row) - n_listed)


def test_items_scored_minus_infinity_are_no_recommendation(table, history) -> None:
    table[2, 5:] = -torch.inf
    assert sorted(top_unobserved(Table(table), history, 8)[2].tolist()) == [0, 0, 0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("max_block_mb", [ONE_USER, 3 * 4 * N_ITEMS / 2**20, 64.0])
def test_lists_do_not_depend_on_the_block_size_and_blocks_keep_to_it(table, history, max_block_mb) -> None:
    model = Table(table)
    assert torch.equal(
        top_unobserved(model, history, 5, max_block_mb=max_block_mb), top_unobserved(Table(table), history, 5)
    )
    assert max(model.sizes) <= users_per_block(N_ITEMS, max_block_mb)
    assert sum(model.sizes) == len(history.active_users)
    ranked = ranked_history(Table(table).eval(), history, 4, max_block_mb=max_block_mb)
    assert torch.equal(ranked, ranked_history(Table(table).eval(), history, 4))


@pytest.mark.parametrize("was_training", [True, False])
def test_looking_at_a_model_changes_neither_the_random_state_nor_its_mode(table, history, was_training) -> None:
    model = Table(table).train(was_training)
    before = torch.get_rng_state()
    top_unobserved(model, history, 3)
    assert model.training is was_training
    ranked_history(model.eval(), history, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_is_refused__and_only_there(table, history) -> None:
    table[6] = torch.nan  # a user without training items, whom nobody asks
    top_unobserved(Table(table), history, 3)
    table[3, 7] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        top_unobserved(Table(table), history, 3)


@pytest.mark.parametrize("depth", [1, 3, 9, 50])
def test_ranked_history_agrees_with_a_loop(table, history, depth) -> None:
    width = min(depth, 9)
    expected = []
    for user in range(N_USERS):
        row = sorted(known(history, user), key=lambda item: -float(table[user, item]))[:width]
        expected.append(row + [0] * (width - len(row)))
    assert ranked_history(Table(table), history, depth).tolist() == expected


def test_top_of_block_leaves_the_scores_as_they_were(table) -> None:
    before = table.clone()
    top_of_block(table, torch.tensor([[1]] * N_USERS), 3)
    assert torch.equal(table, before)


def test_a_model_without_full_sort_predict_is_asked_for_every_pair(make_model, split, monkeypatch) -> None:
    monkeypatch.setattr("recbole_hetcomp.teachers.ranking.PAIRS_AT_ONCE", 100)  # blocks that end within a user's row
    model = make_model("DMF")
    users = torch.tensor([3, 1, 60])
    scores = full_scores(model, users)
    assert scores.shape == (3, split.whole.item_num)
    for row, user in enumerate(users):
        one_user = Interaction({"user_id": user.repeat(scores.size(1)), "item_id": torch.arange(scores.size(1))})
        torch.testing.assert_close(scores[row], model.predict(one_user))


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "MultiVAE", "CML", "EASE", "NeuMF"])
def test_lists_of_real_models_agree_with_a_loop_over_their_scores(make_model, split, name) -> None:
    model = make_model(name)
    with torch.no_grad():
        active = split.history.active_users
        scores = torch.zeros(split.whole.user_num, split.whole.item_num)
        scores[active] = full_scores(model, active).detach()
    top = top_unobserved(model, split.history, 10)
    expected = torch.tensor(best_by_a_loop(scores, split.history, 10))
    # Items of equal scores may change places, so the scores along the lists are compared, and the items as sets of scores.
    torch.testing.assert_close(scores.gather(1, top.long()), scores.gather(1, expected))
    for user in range(split.whole.user_num):
        assert not set(top[user].tolist()) & set(known(split.history, user))


def test_gradients_flow_through_full_scores_where_they_are_enabled(make_model) -> None:
    assert full_scores(make_model("BPR"), torch.tensor([1, 2])).requires_grad


def test_full_scores_brings_users_to_the_models_device() -> None:
    asked = []
    model = SimpleNamespace(
        device=torch.device("meta"),
        USER_ID="user_id",
        full_sort_predict=lambda batch: asked.append(batch["user_id"]) or torch.zeros(6),
    )
    assert full_scores(model, torch.tensor([1, 2])).shape == (2, 3)
    assert asked[0].device.type == "meta"


def test_lists_of_opinions_end_where_the_lowest_scores_tie(table, history) -> None:
    table[1, 1:10] = torch.arange(9.0) - 20  # training items, whose scores say nothing of the others
    table[1, 10:] = -1.0
    table[2] = 0.3
    table[3] = 0.3
    table[3, 5] = 0.4
    table[4] = table[4].abs() + 1
    table[4, [1, 2, 3, 5]] = 9.0  # a tie at the top is one of opinions
    asked, every = (top_unobserved(Table(table), history, 4, opinions_alone=alone) for alone in (True, False))
    assert not asked[[1, 2]].any()
    assert (every[[1, 2]] > 0).any(1).all()
    assert asked[3].tolist() == [5, 0, 0, 0]
    assert torch.equal(asked[4:], every[4:])
    best = top_unobserved(Table(table), history, 1)
    assert torch.equal(top_unobserved(Table(table), history, 1, opinions_alone=True), best)  # of one item nobody can tell


def test_lists_of_some_users_are_their_rows_and_0_elsewhere(table, history) -> None:
    model, active = Table(table), history.active_users
    parts = [top_unobserved(model, history, 5, users=active[start::3]) for start in range(3)]
    assert torch.equal(sum(parts), top_unobserved(model, history, 5))
    assert not parts[1][active[0::3]].any()
    assert not top_unobserved(model, history, 5, users=active[:0]).any()


@pytest.mark.parametrize(
    ("width", "k"), [(5 * GROUP, 4), (5 * GROUP + 3, 4), (5 * GROUP, 5), (40 * GROUP + GROUP - 1, 30), (3, 3)]
)
def test_the_largest_by_groups_are_the_largest(width, k) -> None:
    generator = torch.Generator().manual_seed(width)
    scores = torch.randint(0, 1000, (50, width), generator=generator).float()  # with ties
    scores[:, ::3] = -torch.inf
    best, columns = largest(scores, k)
    assert torch.equal(best, scores.topk(k, dim=1).values)
    assert torch.equal(scores.gather(1, columns), best)
    assert all(len(set(row)) == k for row in columns.tolist())


@pytest.mark.parametrize("column", [1, 7 * GROUP - 1, 7 * GROUP + 2])
def test_one_nan_among_many_scores_is_found(column) -> None:
    scores = torch.randn(3, 7 * GROUP + 5)
    scores[1, column] = torch.nan
    nothing = torch.zeros(3, 0, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="NaN"):
        top_of_block(scores, nothing, 5)
    top_of_block(scores, torch.full((3, 1), column), 5)  # nobody looks at what is left out
