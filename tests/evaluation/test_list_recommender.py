"""The ensemble as a RecBole model ranks as the ensemble's own lists do."""

from __future__ import annotations

import copy
from collections import defaultdict

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.evaluation.list_recommender import of_ensemble
from recbole_hetcomp.evaluation.on_test import metrics_of
from recbole_hetcomp.teachers import TeacherPool
from recbole_hetcomp.teachers.ensemble import Ensemble


def ranking(model, user: int, without: set[int] = frozenset()) -> list[int]:
    """A user's scored items, best first."""
    scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])}))[0]
    order = scores.argsort(descending=True, stable=True).tolist()
    return [item for item in order if scores[item] > -torch.inf and item not in without]


def last_stage(pool) -> torch.Tensor:
    return torch.full((len(pool), pool.n_users), pool.n_stages - 1)


@pytest.mark.parametrize("importance", ["rank_consistency", "rank_only", "power"])
def test_ensemble_ranks_as_its_lists_after_validation_items_are_masked(
    make_config, split, list_pool, items_of, importance
) -> None:
    config, pool = make_config("HetCompStudent", importance=importance), list_pool(3)
    model = of_ensemble(config, copy.copy(split.train), pool)
    lists = Ensemble.from_config(pool, config).topk(split.whole.item_num, last_stage(pool))
    valid = items_of(1)
    for user in split.history.active_users.tolist():
        expected = [item for item in lists[user].tolist() if item and item not in valid[user]]
        assert len(expected) > 20
        assert ranking(model, user, without=valid[user]) == expected


def test_ensemble_is_evaluated_as_a_hand_evaluation_of_its_lists(make_config, split, list_pool, metrics_by_hand) -> None:
    config, pool = make_config("HetCompStudent"), list_pool(2)
    model = of_ensemble(config, copy.copy(split.train), pool)
    found = metrics_of(model, config, split.loaders(config))
    lists = Ensemble.from_config(pool, config).topk(split.whole.item_num, last_stage(pool))
    assert found == pytest.approx(metrics_by_hand(lists, [5, 10]), abs=1e-4)  # RecBole rounds to four decimals
    assert 0 < found["recall@10"] < 1


def test_items_beyond_the_cutoff_follow_by_rank(make_config, split, list_pool) -> None:
    config, pool = make_config("HetCompStudent", importance="rank_only", importance_cutoff=4), list_pool(1)
    model = of_ensemble(config, copy.copy(split.train), pool)
    for user in split.history.active_users[:9].tolist():
        assert ranking(model, user) == pool.topk(20)[0, user].tolist()


def test_items_beyond_the_cutoff_never_overtake_those_within(make_config, split, list_pool) -> None:
    config, pool = make_config("HetCompStudent", importance_cutoff=4), list_pool(3)
    model = of_ensemble(config, copy.copy(split.train), pool)
    listed, given = Ensemble.from_config(pool, config).candidates(last_stage(pool), torch.arange(pool.n_users))
    candidates = (listed, given.expand(listed.shape))
    for user in split.history.active_users[:9].tolist():
        worth: dict[int, float] = defaultdict(float)
        for item, importance in zip(*(part[:, user].flatten().tolist() for part in candidates)):
            worth[item] += importance
        found = ranking(model, user)
        assert [worth[item] for item in found] == pytest.approx(sorted((worth[item] for item in found), reverse=True))
        assert set(found) == {item for item in pool.topk(20)[:, user].flatten().tolist() if item}


def test_users_without_lists_and_items_outside_them_get_no_score(make_config, split, list_pool) -> None:
    model = of_ensemble(make_config("HetCompStudent"), copy.copy(split.train), list_pool(2))
    assert ranking(model, 0) == []
    assert ranking(model, split.whole.token2id("user_id", "cold")) == []
    assert 0 not in ranking(model, 1)


@pytest.mark.parametrize("importance", ["rank_only", "power"])
def test_teachers_whose_lists_change_places_leave_the_ranking_as_it_is__ties_included(
    make_config, split, list_pool, importance
) -> None:
    config, pool = make_config("HetCompStudent", importance=importance), list_pool(3)
    turned = TeacherPool(pool.teachers[::-1])
    lists = [Ensemble.from_config(teachers, config).topk(60, last_stage(pool)) for teachers in (pool, turned)]
    assert torch.equal(*lists)
    for user in split.history.active_users[:9].tolist():
        alone = Ensemble.from_config(pool, config).topk(60, last_stage(pool)[:, [user]], torch.tensor([user]))
        assert torch.equal(alone[0], lists[0][user])


def test_no_two_items_score_the_same__so_a_cut_never_falls_into_a_tie(make_config, split, list_pool) -> None:
    model = of_ensemble(make_config("HetCompStudent", importance="rank_only"), copy.copy(split.train), list_pool(3))
    scores = model.full_sort_predict(Interaction({"user_id": split.history.active_users}))
    for row in scores:
        listed = row[row > -torch.inf]
        assert len(listed) > 20
        assert len(listed.unique()) == len(listed)


def test_predict_agrees_with_full_sort_predict(make_config, split, list_pool) -> None:
    model = of_ensemble(make_config("HetCompStudent"), copy.copy(split.train), list_pool(2))
    items = torch.arange(split.whole.item_num)
    pairs = Interaction({"user_id": torch.full_like(items, 3), "item_id": items})
    row = model.full_sort_predict(Interaction({"user_id": torch.tensor([3])}))[0]
    assert torch.equal(model.predict(pairs), row)
