"""Paired tests over users: RecBole's own metrics user by user, and p-values against scipy and a permutation test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.evaluator import Evaluator
from scipy.stats import sem, ttest_rel
from scipy.stats import t as student_t

from recbole_hetcomp.evaluation.significance import LEVEL, UserEvaluator, differences, holm, p_value, paired_p_values


def test_the_mean_over_users_is_the_metric(make_config) -> None:
    config = make_config("BPR", metrics=["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP"], topk=[2, 5])
    generator = torch.Generator().manual_seed(0)
    hits = torch.rand(40, 5, generator=generator) < 0.4
    relevant = hits.sum(1, keepdim=True) + torch.randint(1, 4, (40, 1), generator=generator)
    struct = {"rec.topk": torch.cat([hits.int(), relevant.int()], 1)}
    ours = UserEvaluator(config)
    result = ours.evaluate(struct)
    assert result == Evaluator(config).evaluate(struct)
    assert set(ours.users) == set(result)
    for name, values in ours.users.items():
        assert values.shape == (40,)
        assert values.mean() == pytest.approx(result[name], abs=6e-5)  # RecBole rounds
    by_hand = hits[:, :2].sum(1) / relevant[:, 0]
    assert ours.users["recall@2"] == pytest.approx(by_hand.numpy())


def test_p_values_are_paired__and_adjusted_for_the_number_of_models() -> None:
    random = np.random.default_rng(0)
    ours = random.random((1, 200))
    others = [ours + random.normal(shift, 0.1, 200) for shift in (0.001, 0.03)]
    found = paired_p_values({"recall@5": ours}, [{"recall@5": other} for other in others])
    raw = [ttest_rel(ours[0], other[0]).pvalue for other in others]
    assert [row["recall@5"] for row in found] == pytest.approx(holm(raw))
    assert found[0]["recall@5"] > 0.05 > found[1]["recall@5"]
    # unpaired, the second difference would drown in what users differ by
    assert abs(ours.mean() - others[1].mean()) < ours.std() / np.sqrt(200) * 2


def test_p_is_what_flipping_signs_at_random_gives() -> None:
    random = np.random.default_rng(1)
    ours, other = random.random((2, 1, 60))
    other = other + 0.06
    difference = (ours - other)[0]
    flipped = (random.choice([-1, 1], (20_000, 60)) * difference).mean(1)
    by_permutation = (abs(flipped) >= abs(difference.mean())).mean()
    assert p_value(ours, other) == pytest.approx(by_permutation, abs=0.02)


@pytest.mark.parametrize("seed_spread", [0.0, 0.003, 0.01])
def test_two_runs_of_one_method_differ_no_oftener_than_the_level_says(seed_spread) -> None:
    random = np.random.default_rng(2)

    def seeds(users: np.ndarray) -> np.ndarray:
        return users + random.normal(0, seed_spread, (3, 1)) + random.normal(0, 0.1, (3, 500))

    stars = [p_value(seeds(users), seeds(users)) < LEVEL for users in random.random((400, 500))]
    assert np.mean(stars) < 0.08  # a test over users alone would find up to half of them


def test_a_difference_beyond_users_and_seeds_is_found() -> None:
    random = np.random.default_rng(3)
    users = random.random(500)
    ours, theirs = (users + shift + random.normal(0, 0.003, (3, 1)) + random.normal(0, 0.1, (3, 500)) for shift in (0, 0.05))
    assert p_value(ours, theirs) < 0.01


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_difference_at_all_is_no_significance__and_one_user_is_none_either(seeds) -> None:
    values = np.array([[0.1, 0.5, 0.5]] * seeds)
    assert paired_p_values({"m": values}, [{"m": values.copy()}]) == [{"m": 1.0}]
    assert p_value(np.array([[0.1]]), np.array([[0.2]])) == 1.0
    assert p_value(values, values + 0.25) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.5, 0.9], [1.0, 1.0]), ([0.2], [0.2]), ([], [])],
)
def test_holms_example(p_values, adjusted) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_a_difference_has_scipys_interval_and_counts_users() -> None:
    generator = np.random.default_rng(5)
    ours = generator.random(80)
    theirs = ours + generator.normal(-0.02, 0.05, 80)
    theirs[:10] = ours[:10]
    found = differences({"recall@10": ours[None]}, {"recall@10": theirs[None], "other": theirs[None]})["recall@10"]
    mean, reach = np.mean(ours - theirs), student_t.isf(0.025, 79) * sem(ours - theirs)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach))
    assert found.p == pytest.approx(ttest_rel(ours, theirs).pvalue)
    assert found.tied == pytest.approx(10 / 80)
    assert found.won + found.lost + found.tied == pytest.approx(1)
    assert found.won == pytest.approx(np.mean(ours > theirs))


def test_seeds_widen_the_interval() -> None:
    generator = np.random.default_rng(6)
    users, theirs = generator.random(50), generator.random((1, 50))
    same = differences({"m": np.stack([users, users])}, {"m": theirs})["m"]
    apart = differences({"m": np.stack([users - 0.1, users + 0.1])}, {"m": theirs})["m"]
    assert same.mean == pytest.approx(apart.mean)
    assert apart.high - apart.low > same.high - same.low


def test_equal_models_and_a_single_user_have_no_significance() -> None:
    values = np.arange(4.0)[None]
    assert differences({"m": values}, {"m": values})["m"] == (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0)
    alone = differences({"m": values[:, :1] + 1}, {"m": values[:, :1]})["m"]
    assert (alone.low, alone.high, alone.p, alone.won) == (None, None, 1.0, 1.0)
