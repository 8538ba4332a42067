"""The ensemble against a dictionary of exact fractions, and what must not change it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_hetcomp.knowledge import ensemble, ensemble_topk, observed_ranking, rank_importance
from recbole_hetcomp.teachers.trajectory import OBSERVED_DEPTH


def slow_ensemble(items: Tensor, importance: Tensor, k: int) -> tuple[list[list[int]], list[list[float]]]:
    lists, totals = [], []
    for user in range(items.size(1)):
        total: dict[int, Fraction] = defaultdict(Fraction)
        for teacher in range(items.size(0)):
            for item, worth in zip(items[teacher, user].tolist(), importance[teacher, user].tolist()):
                if item > 0 and worth > 0:
                    total[item] += Fraction(worth)
        best = sorted(total, key=lambda item: (-total[item], item))[:k]
        lists.append(best + [0] * (k - len(best)))
        totals.append([float(total[item]) for item in best] + [0.0] * (k - len(best)))
    return lists, totals


def random_lists(seed: int, n_teachers: int, n_users: int, width: int, n_items: int) -> Tensor:
    """[X, U, L]: different items in each list, some of them taken out again (id 0) in the middle and at the end."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.rand(n_teachers, n_users, max(n_items, width), generator=generator).argsort(-1)[..., :width] + 1
    items = items.masked_fill(items > n_items, 0)
    length = torch.randint(0, width + 1, (n_teachers, n_users, 1), generator=generator)
    hole = torch.rand(items.shape, generator=generator) < 0.1
    return items.masked_fill((torch.arange(width) >= length) | hole, 0)


def distinct_importance(items: Tensor, seed: int) -> Tensor:
    return torch.rand(items.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01


@pytest.fixture(autouse=True, params=["_keys_by_product", "_keys_by_sorting"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How sums are made on the CPU, and elsewhere: the same to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "_keys_by_product", getattr(ensemble, request.param))
        yield request.param


sizes = {
    "seed": st.integers(0, 10**6),
    "n_teachers": st.integers(1, 6),
    "n_users": st.integers(1, 7),
    "width": st.integers(1, 12),
    "n_items": st.integers(1, 30),
}


@settings(deadline=None)
@given(**sizes, k=st.integers(1, 40), dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_ensemble_topk_equals_exact_sums_with_many_ties(
    seed: int, n_teachers: int, n_users: int, width: int, n_items: int, k: int, dtype: torch.dtype
) -> None:
    items = random_lists(seed, n_teachers, n_users, width, n_items)
    generator = torch.Generator().manual_seed(seed)
    importance = (torch.randint(0, 5, items.shape, generator=generator) / 4).to(dtype)  # 0, 0.25, .. 1: exact sums
    best, total = ensemble_topk(items, importance, k)
    expected_best, expected_total = slow_ensemble(items, importance, k)
    assert best.tolist() == expected_best
    assert total.tolist() == expected_total


@settings(deadline=None)
@given(**sizes, k=st.integers(1, 40))
def test_ensemble_topk_equals_exact_sums_of_the_importance_of_ranks(
    seed: int, n_teachers: int, n_users: int, width: int, n_items: int, k: int
) -> None:
    items = random_lists(seed, n_teachers, n_users, width, n_items)
    std = 60 * distinct_importance(items, seed)
    importance = rank_importance(torch.arange(width).expand(items.shape), std.half(), cutoff=10)
    best, total = ensemble_topk(items.int(), importance, k)
    expected_best, expected_total = slow_ensemble(items, importance, k)
    assert best.tolist() == expected_best
    torch.testing.assert_close(total, torch.tensor(expected_total))


@settings(deadline=None)
@given(**sizes)
def test_the_order_of_the_teachers_changes_no_bit(
    seed: int, n_teachers: int, n_users: int, width: int, n_items: int
) -> None:
    items = random_lists(seed, n_teachers, n_users, width, n_items)
    # Each teacher's list holds the same few irrational numbers: sums of three differ in the last bit by their order.
    importance = rank_importance(torch.arange(width, dtype=torch.float64) % 4, temperature=3.0).expand(items.shape)
    shuffled = torch.randperm(n_teachers, generator=torch.Generator().manual_seed(seed))
    best, total = ensemble_topk(items, importance, 15)
    again, total_again = ensemble_topk(items[shuffled], importance[shuffled], 15)
    assert torch.equal(best, again)
    assert torch.equal(total, total_again)


def test_sums_that_differ_by_the_order_of_addition_alone_are_ties() -> None:
    assert (0.1 + 0.2) + 0.3 != (0.3 + 0.2) + 0.1
    items = torch.tensor([[[9, 4]], [[9, 4]], [[9, 4]]])
    importance = torch.tensor([[[0.1, 0.3]], [[0.2, 0.2]], [[0.3, 0.1]]], dtype=torch.float64)
    best, total = ensemble_topk(items, importance, 2)
    assert best.tolist() == [[4, 9]]
    assert total[0, 0] == total[0, 1]


@settings(deadline=None)
@given(**sizes)
def test_users_are_independent_of_each_other(seed: int, n_teachers: int, n_users: int, width: int, n_items: int) -> None:
    items = random_lists(seed, n_teachers, n_users, width, n_items)
    importance = distinct_importance(items, seed)
    best, total = ensemble_topk(items, importance, 10)
    shuffled = torch.randperm(n_users, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(ensemble_topk(items[:, shuffled], importance[:, shuffled], 10)[0], best[shuffled])
    for user in range(n_users):
        alone = ensemble_topk(items[:, user : user + 1], importance[:, user : user + 1], 10)
        assert torch.equal(alone[0][0], best[user])
        assert torch.equal(alone[1][0], total[user])


@settings(deadline=None)
@given(**sizes)
def test_new_names_for_the_items_rename_the_result(
    seed: int, n_teachers: int, n_users: int, width: int, n_items: int
) -> None:
    items = random_lists(seed, n_teachers, n_users, width, n_items)
    importance = distinct_importance(items, seed)
    names = torch.randperm(n_items, generator=torch.Generator().manual_seed(seed)) * 1000 + 1
    names = torch.cat([torch.zeros(1, dtype=torch.long), names])
    best, total = ensemble_topk(items, importance, 10)
    renamed, total_again = ensemble_topk(names[items], importance, 10)
    assert torch.equal(renamed, names[best])
    assert torch.equal(total_again, total)


@settings(deadline=None)
@given(**sizes)
def test_no_importance_is_lost_or_made(seed: int, n_teachers: int, n_users: int, width: int, n_items: int) -> None:
    items = random_lists(seed, n_teachers, n_users, width, n_items)
    importance = distinct_importance(items, seed)
    best, total = ensemble_topk(items, importance, n_items)
    given_away = importance.masked_fill(items == 0, 0.0).sum((0, 2))
    torch.testing.assert_close(total.sum(1), given_away)
    assert ((best > 0) == (total > 0)).all()
    assert (total.diff(dim=1) <= 0).all()


def test_items_without_importance_and_item_zero_are_no_candidates() -> None:
    items = torch.tensor([[[1, 2, 0, 3]], [[1, 0, 0, 4]]])
    importance = torch.tensor([[[0.0, 0.5, 3.0, float("nan")]], [[0.0, 3.0, 3.0, 0.25]]])
    best, total = ensemble_topk(items, importance, 4)
    assert best.tolist() == [[2, 4, 0, 0]]
    assert total.tolist() == [[0.5, 0.25, 0.0, 0.0]]


def test_what_is_no_item_is_not_summed_up_either() -> None:
    items = torch.zeros(1, 2, 200, dtype=torch.int64)  # 200 times no item would be a sum of 200
    items[0, 1, 0] = 5
    best, total = ensemble_topk(items, torch.ones(1, 1, 200), 2)
    assert best.tolist() == [[0, 0], [5, 0]]
    assert total.tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_an_item_that_a_teacher_lists_twice_counts_twice() -> None:
    items = torch.full((1, 1, 9), 7)
    items[0, 0, 4] = 3
    best, total = ensemble_topk(items, torch.ones(1, 1, 9), 3)
    assert best.tolist() == [[7, 3, 0]]
    assert total.tolist() == [[8.0, 1.0, 0.0]]


@pytest.mark.parametrize("shape", [(2, 3, 0), (2, 0, 5), (2, 3, 5)])
def test_no_candidate_at_all_gives_lists_of_zeros(shape: tuple[int, int, int]) -> None:
    best, total = ensemble_topk(torch.zeros(shape, dtype=torch.int32), torch.ones(shape), 4)
    assert best.dtype == torch.int64
    assert best.shape == total.shape == (shape[1], 4)
    assert not best.any()
    assert not total.any()


def test_working_in_blocks_of_users_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    items = random_lists(3, 4, 25, 10, 40)
    importance = distinct_importance(items, 3)
    whole = ensemble_topk(items, importance, 8)
    monkeypatch.setattr(ensemble, "BLOCK", 3 * 4 * 10)
    in_blocks = ensemble_topk(items, importance, 8)
    assert torch.equal(in_blocks[0], whole[0])
    assert torch.equal(in_blocks[1], whole[1])


def test_ensemble_topk_leaves_its_arguments_alone() -> None:
    items = random_lists(5, 3, 6, 8, 12)
    importance = distinct_importance(items, 5)
    before = items.clone(), importance.clone()
    ensemble_topk(items, importance, 5)
    assert torch.equal(items, before[0])
    assert torch.equal(importance, before[1])


def test_an_importance_that_all_users_share_need_not_be_repeated() -> None:
    items = random_lists(7, 3, 6, 8, 12)
    shared = distinct_importance(items, 7)[:, :1]
    best, total = ensemble_topk(items, shared, 5)
    repeated = ensemble_topk(items, shared.expand(items.shape), 5)
    assert torch.equal(best, repeated[0])
    assert torch.equal(total, repeated[1])


def test_items_and_importance_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        ensemble_topk(torch.ones(2, 3, 4, dtype=torch.long), torch.ones(2, 3, 5), 2)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n_teachers=st.integers(1, 5), n_users=st.integers(1, 6), k=st.integers(1, 12))
def test_observed_ranking_sums_the_teachers_ranks_of_the_training_items(
    seed: int, n_teachers: int, n_users: int, k: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    observed = torch.zeros(n_teachers, n_users, 9, dtype=torch.int32)
    for user in range(n_users):
        history = torch.randperm(50, generator=generator)[: int(torch.randint(0, 10, (), generator=generator))] + 1
        for teacher in range(n_teachers):
            order = torch.randperm(len(history), generator=generator)
            observed[teacher, user, : len(history)] = history[order].int()
    importance = torch.exp(-torch.arange(9, dtype=torch.float64) / 5.0).expand(observed.shape)
    totals = slow_ensemble(observed, importance, k)[0]
    found = observed_ranking(observed, k, temperature=5.0)
    # Equal multisets of ranks are equal sums for both, but the fractions also tell apart what float64 cannot.
    assert found.tolist() == totals


def test_observed_ranking_settles_ties_by_the_item_id() -> None:
    observed = torch.tensor([[[8, 2, 5]], [[2, 8, 5]]])
    assert observed_ranking(observed, 4).tolist() == [[2, 8, 5, 0]]


def test_observed_ranking_keeps_even_the_last_of_a_long_history() -> None:
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1)) + 1
    ranked = observed_ranking(order.view(1, 1, 300), 300)[0]
    assert ranked[:OBSERVED_DEPTH].tolist() == order[:OBSERVED_DEPTH].tolist()
    assert sorted(ranked.tolist()) == sorted(order.tolist())


@pytest.mark.parametrize(
    ("items", "importance", "sentence"),
    [
        (torch.full((1, 1, 2), 2**24), torch.ones(1, 1, 2), "item ids are"),
        (torch.tensor([[[3, -1]]]), torch.ones(1, 1, 2), "item ids are -1 to 3"),
        (torch.tensor([[[3, 5]]]), torch.full((1, 1, 2), 128.0), "sums below 128"),
        (torch.ones(33, 1, 1, dtype=torch.int64), torch.full((33, 1, 1), 3.9), "sum up to 129"),
    ],
)
def test_what_cannot_be_counted_exactly_is_refused(items: Tensor, importance: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ensemble_topk(items, importance, 2)


def test_an_importance_below_a_step_is_still_an_opinion() -> None:
    best, total = ensemble_topk(torch.tensor([[[5, 3, 4]]]), torch.tensor([[[1e-30, 1e-20, 0.0]]], dtype=torch.float64), 3)
    assert best.tolist() == [[3, 5, 0]]
    assert (total > 0).tolist() == [[True, True, False]]
