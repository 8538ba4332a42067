"""Sequential data: rows, what a model is asked for them, and the same data as general models see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.teacher_training.configs import teacher_config

FIELDS = ("user_id", "item_id_list", "item_length")


@st.composite
def histories(draw) -> list[list[int]]:
    """Of some users, the first of them the padding; items 1 to 9, repeats among them."""
    of_user = st.lists(st.integers(1, 9), max_size=12)
    return [[], *draw(st.lists(of_user, min_size=1, max_size=6))]


def sequences(of_users: list[list[int]], points: int = 4, longest: int = 5, seed: int = 3) -> Sequences:
    users = torch.tensor([user for user, items in enumerate(of_users) for _ in items], dtype=torch.int64)
    items = torch.tensor([item for items in of_users for item in items], dtype=torch.int64)
    return Sequences(users, items, len(of_users), 10, points=points, longest=longest, fields=FIELDS, seed=seed)


@given(histories(), st.integers(1, 6))
def test_rows_agree_with_a_loop(of_users, points) -> None:
    rows = sequences(of_users, points)
    assert rows.of_user[: len(of_users)].tolist() == list(range(len(of_users)))
    asked, following = rows.asked(torch.arange(rows.n_users)), rows.following(3)
    for row, (user, length) in enumerate(zip(rows.of_user.tolist(), rows.lengths.tolist())):
        items = of_users[user]
        before, after = items[:length], items[length:]
        assert length == len(items) if row < len(of_users) else 0 < length < len(items)
        assert asked["user_id"][row] == user
        assert asked["item_id_list"][row].tolist() == (before[-5:] + [0] * 5)[:5]
        assert asked["item_length"][row] == max(1, min(5, length))
        assert following[row].tolist() == ([*dict.fromkeys(after[:3])] + [0] * 3)[:3]
        assert set(rows.padded(torch.tensor([row])).squeeze(0).tolist()) - {0} == set(items)
    points_of = [sorted(rows.lengths[rows.of_user == user].tolist()) for user in range(len(of_users))]
    for items, drawn in zip(of_users, points_of):
        assert len(drawn) == len(set(drawn)) == max(1, min(points, len(items)))


@given(histories(), st.integers(1, 6))
def test_rows_have_what_a_history_of_rows_has(of_users, points) -> None:
    rows = sequences(of_users, points)
    pairs = [(row, item) for row, user in enumerate(rows.of_user.tolist()) for item in of_users[user]]
    row_of, items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    plain = History(row_of, items, rows.n_users, 10)
    for name in ("pairs", "items", "counts", "starts", "active_users"):
        assert torch.equal(getattr(rows, name), getattr(plain, name)), name
    assert (rows.n_users, rows.n_items, rows.longest) == (plain.n_users, plain.n_items, plain.longest)
    some = torch.arange(rows.n_users).repeat(3)
    assert torch.equal(rows.padded(some), plain.padded(some))
    draws = [history.drawn(some, torch.Generator().manual_seed(4)) for history in (rows, plain)] if pairs else [some, some]
    assert torch.equal(*draws)
    both = torch.arange(rows.n_users)[:, None], torch.arange(10)
    assert torch.equal(rows.contains(*both), plain.contains(*both))


def test_earlier_points_are_drawn_evenly_and_by_the_seed_alone() -> None:
    of_users = [[], *[[1, 2, 3, 4, 5, 6]] * 3000]
    rows = sequences(of_users, points=3)
    counts = torch.bincount(rows.lengths[3001:], minlength=6)
    assert counts[0] == 0
    assert (counts[1:6] - 1200).abs().max() < 5 * (1200 * 0.6) ** 0.5  # five standard deviations
    assert rows.fingerprint == sequences(of_users, points=3).fingerprint
    assert rows.fingerprint != sequences(of_users, points=3, seed=4).fingerprint
    assert torch.equal(rows.lengths[:3001], sequences(of_users, points=1).lengths)


def test_a_row_of_each_user_is_drawn_and_any_of_them_alike() -> None:
    rows = sequences([[], [1, 2, 3, 4, 5], [7], [8, 9, 1, 2]], points=4)
    users = torch.tensor([3, 1, 2]).repeat(4000)
    drawn = rows.drawn_rows(users, torch.Generator().manual_seed(1))
    assert torch.equal(rows.of_user[drawn], users)
    counts = torch.bincount(drawn, minlength=rows.n_users)[rows.of_user == 1]
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.fixture
def sequential(make_config):
    """`sequential(model, **settings)`: a Config for `toy` as sequential models see it."""

    def make(model: str = "SASRec", **settings) -> Config:
        return make_config(model, load_col={"inter": ["user_id", "item_id", "timestamp"]}, **settings)

    return make


def columns(part) -> list[np.ndarray]:
    return [part.inter_feat[name].numpy() for name in ("user_id", "item_id", "timestamp")]


def test_the_general_view_is_the_general_split_row_by_row(sequential) -> None:
    """Of users with four interactions or more; RecBole's sequential split counts instances."""
    both = make_split(sequential())
    leave_out = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    general = make_split(sequential("BPR", eval_args=leave_out))
    assert both.id_fingerprint == general.id_fingerprint
    for ours, theirs in zip(both.parts, general.parts):
        # RecBole's training part is in the order of time; the view is by user
        order = np.argsort(theirs.inter_feat["user_id"].numpy(), kind="stable")
        for found, expected in zip(columns(ours), columns(theirs)):
            assert np.array_equal(found, expected[order])
        assert "item_length" not in ours.inter_feat.columns
    assert (both.train.inter_matrix() != general.train.inter_matrix()).nnz == 0
    assert both.fingerprint == general.fingerprint


def test_rows_at_the_end_are_the_validation_instances(sequential) -> None:
    split: Split = make_split(sequential())
    valid = split.instances[1].inter_feat
    asked = split.rows(3, 5).asked(valid["user_id"])
    for name in ("item_id_list", "item_length"):
        assert torch.equal(asked[name], valid[name])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_sequential_models_give_is_kept_by_the_order_of_all_parts(sequential, place) -> None:
    """What is validated on comes before what is tested in the sequences."""
    config = sequential(eval_args={"split": {"RS": [0.5, 0.3, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"})
    split, exchanged = make_split(config), make_split(config)
    users, items = (exchanged.parts[place].inter_feat[name] for name in ("user_id", "item_id"))
    first = int((users[1:] == users[:-1]).nonzero()[0])
    items[[first, first + 1]] = items[[first + 1, first]]
    assert split.fingerprint == exchanged.fingerprint
    assert split.fingerprint_for(config) != exchanged.fingerprint_for(config)


def test_a_user_counts_once_in_the_popularity_of_an_item(sequential) -> None:
    split = make_split(sequential("GRU4Rec"))
    assert torch.equal(split.rows(5, 3).popularity, split.history.popularity)
    expected = torch.bincount(split.history.items, minlength=split.whole.item_num)
    assert torch.equal(split.history.popularity, expected)
    assert split.rows(5, 3).items.numel() > 2 * split.history.items.numel()


def test_a_sequential_student_and_its_teachers_have_the_same_rows(sequential) -> None:
    config = sequential("HetCompStudent", student="GRU4Rec", teachers=["SASRec", "BPR"], hidden_size=8)
    split = make_split(config)
    student = config.model_class(config, split.loaders(config).train._dataset)
    assert student.history.fingerprint == split.rows_for(config).fingerprint


@pytest.mark.parametrize("mask_seen", [True, False])
def test_evaluation_masks_what_general_models_have_masked__or_nothing(sequential, mask_seen) -> None:
    config = sequential(mask_seen=mask_seen, eval_batch_size=82 * 7)
    split = make_split(config)
    loaders, general = split.loaders(config), split.loaders(sequential("BPR", in_sequential_run=True, repeatable=False))
    for of_instances, of_users in ((loaders.valid, general.valid), (loaders.test, general.test)):
        masked = {}
        for interaction, history, rows, positives in of_instances:
            assert len(interaction) <= 7
            assert torch.equal(positives, interaction["item_id"])
            assert torch.equal(rows, torch.arange(len(interaction)))
            assert (history is None) == (not mask_seen)
            for row, item in zip(*history) if mask_seen else ():
                masked.setdefault(int(interaction["user_id"][row]), set()).add(int(item))
        expected = {}
        for interaction, (rows, items), _, _ in of_users:
            for row, item in zip(rows, items):
                expected.setdefault(int(interaction["user_id"][row]), set()).add(int(item))
        assert masked == (expected if mask_seen else {})


def test_training_by_cross_entropy_draws_no_negatives(sequential) -> None:
    config = sequential("HetCompStudent", student="SASRec", teachers=["BPR"], hidden_size=8, inner_size=8)
    for batch in make_split(config).loaders(config).train:
        assert "label" not in batch.columns
        assert not [name for name in batch.columns if name.startswith("neg_")]


def test_general_models_of_a_sequential_run_draw_no_training_item(sequential) -> None:
    config = sequential("HetCompStudent", student="GRU4Rec", teachers=["SASRec", "BPR"], hidden_size=8)
    split = make_split(config)
    drawn = 0
    for batch in split.loaders(teacher_config(config, "BPR")).train:
        drawn += len(batch)
        assert not split.history.contains(batch["user_id"], batch["neg_item_id"]).any()
    assert drawn == len(split.train)
