"""UnKD: its groups, its pairs and its loss against loops, and that the order within the groups is learnt."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.utils import init_seed

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.unkdstudent import (
    UnKDStudent,
    draw_pairs,
    draw_ranks,
    equal_mass_groups,
    pairs_of_groups,
    pairwise_loss,
)
from recbole_hetcomp.trainer.distillation import DistillationTrainer

SMALL = {"n_groups": 3, "n_pairs": 12, "group_depth": 15, "pair_temperature": 5.0}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def student(make_model, trained_pool):
    """`student(**settings)`: a UnKDStudent that has learnt from a teacher, scores in float64."""
    pool = trained_pool("EASE")

    def make(**settings):
        model = make_model("UnKDStudent", **{**SMALL, **settings}).double()
        model.learn_from(pool)
        model.on_epoch_start(0)
        return model

    make.teacher = pool.teachers[0]
    return make


def groups_by_hand(popularity: list[int], n_groups: int) -> list[list[int]]:
    share = sum(popularity[1:]) / n_groups
    groups: list[list[int]] = [[]]
    mass = 0
    for item in sorted(range(1, len(popularity)), key=lambda item: -popularity[item]):
        if groups[-1] and mass + popularity[item] > share:
            groups.append([])
            mass = 0
        groups[-1].append(item)
        mass += popularity[item]
    if len(groups) > 1 and mass < share / 2:
        last = groups.pop()
        groups[-1] += last
    return groups


@pytest.mark.parametrize("n_groups", [1, 2, 4, 7])
def test_groups_have_equal_mass_and_equal_those_of_a_loop(n_groups: int) -> None:
    popularity = (1000 / (1 + torch.arange(2_001.0))).long()[torch.randperm(2_001, generator=seeded())]
    popularity[0] = 0
    popularity = popularity.clamp(max=60)
    groups = equal_mass_groups(popularity, n_groups)
    assert [group.tolist() for group in groups] == groups_by_hand(popularity.tolist(), n_groups)
    masses = torch.stack([popularity[group].sum() for group in groups]).double()
    torch.testing.assert_close(masses, torch.full_like(masses, popularity.sum().item() / n_groups), rtol=0.1, atol=0)
    assert torch.cat(groups).sort().values.tolist() == list(range(1, 2_001))


@pytest.mark.parametrize("popularity", [[0, 50, 1, 1, 1], [0, 0, 0], [0, 3], [0, 4, 4, 0, 0, 0], [0, 5, 5, 5, 5, 2]])
def test_few_items_make_groups_as_well(popularity: list[int]) -> None:
    for n_groups in (1, 2, 3, 10):
        groups = equal_mass_groups(torch.tensor(popularity), n_groups)
        assert [group.tolist() for group in groups] == groups_by_hand(popularity, n_groups)


def test_shares_are_equal_or_favour_the_less_popular() -> None:
    popularity = torch.tensor([0, 40, 40, 20, 20, 20, 20, 2, 2])
    groups = [torch.tensor([1, 2]), torch.tensor([3, 4, 5, 6]), torch.tensor([7, 8])]
    assert pairs_of_groups(popularity, groups, 30, 0.0) == [10, 10, 10]
    inverse = [2.0, 22.0, 40.0]
    weights = [max(weight / 64, 0.1) for weight in inverse]
    assert pairs_of_groups(popularity, groups, 30, 1.0) == [round(30 * weight / sum(weights)) for weight in weights]
    assert min(pairs_of_groups(popularity, groups, 1, 0.0)) == 1


def test_ranks_have_the_truncated_exponential_distribution() -> None:
    for length in (1, 2, 7):
        drawn = draw_ranks(torch.tensor([length]), 50_000, 3.0, seeded())
        weights = (-torch.arange(length) / 3.0).exp()
        frequencies = torch.bincount(drawn[0], minlength=length) / 50_000
        torch.testing.assert_close(frequencies, weights / weights.sum(), atol=0.01, rtol=0)
    assert not draw_ranks(torch.tensor([0]), 9, 3.0, seeded()).any()


def test_pairs_are_two_independent_draws_given_that_they_differ() -> None:
    drawn = draw_pairs(torch.tensor([[9, 4, 6, 0]]).expand(40_000, -1), 1, 2.0, seeded())
    weights = (-torch.arange(3) / 2.0).exp()
    mass = {(9, 4): weights[0] * weights[1], (9, 6): weights[0] * weights[2], (4, 6): weights[1] * weights[2]}
    for (better, worse), weight in mass.items():
        frequency = ((drawn[0] == better) & (drawn[1] == worse)).float().mean()
        assert frequency.item() == pytest.approx((weight / sum(mass.values())).item(), abs=0.01)
    nothing = draw_pairs(torch.tensor([[5, 0], [0, 0]]), 3, 2.0, seeded())
    assert not nothing[0].any()
    assert not nothing[1].any()


def test_pairs_come_from_one_group_in_the_teachers_order_and_never_from_training(student) -> None:
    model = student()
    teacher = student.teacher.scores(torch.arange(model.history.n_users))
    group_of = {item: number for number, group in enumerate(model.groups) for item in group.tolist()}
    for user in model.history.active_users.tolist():
        trained = set(model.history.padded(torch.tensor([user]))[0].tolist())
        for number, lists in enumerate(model.group_lists):
            free = [item for item in model.groups[number].tolist() if item not in trained]
            listed = [item for item in lists[user].tolist() if item]
            assert set(listed) <= set(free)
            assert teacher[user, listed].tolist() == sorted(teacher[user, free].tolist(), reverse=True)[:15]
        numbers = []
        for better, worse in zip(model.better[user].tolist(), model.worse[user].tolist()):
            assert better != worse
            assert group_of[better] == group_of[worse]
            order = model.group_lists[group_of[better]][user].tolist()
            assert order.index(better) < order.index(worse)
            numbers.append(group_of[better])
        assert [numbers.count(number) for number in range(len(model.groups))] == model.n_pairs
    first = model.better.clone()
    model.on_epoch_start(1)
    assert not torch.equal(model.better, first)


def test_the_loss_equals_a_loop(student) -> None:
    model = student()
    users = model.history.active_users[:9]
    model.better[users[0], 3:] = model.worse[users[0], 3:] = 0  # a user with few pairs, and one with none
    model.better[users[1]] = model.worse[users[1]] = 0
    total = 0.0
    for user, scores in zip(users.tolist(), model.scores(users).tolist()):
        pairs = [pair for pair in zip(model.better[user].tolist(), model.worse[user].tolist()) if pair[0]]
        terms = [math.log1p(math.exp(scores[worse] - scores[better])) for better, worse in pairs]
        total += math.fsum(terms) / max(len(terms), 1)
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-9)
    assert pairwise_loss(torch.tensor([[-900.0, 900.0]]), torch.tensor([[True]])).item() == 1800


def agreement(model) -> torch.Tensor:
    """[groups]: part of fresh pairs of each group that the student orders as the teacher does."""
    users, found = model.history.active_users, []
    for lists in model.group_lists:
        better, worse = draw_pairs(lists[users], 20, SMALL["pair_temperature"], seeded())
        scores = model.pair_scores(users, torch.cat([better, worse], 1)).chunk(2, 1)
        found.append((scores[0] > scores[1])[better > 0].float().mean())
    return torch.stack(found)


def test_the_order_within_every_group_is_nearer_to_the_teachers_than_after_plain_training(
    make_config, split, trained_pool
) -> None:
    pool, found = trained_pool("EASE"), {}
    for weight in (0.0, 1.0):
        config = make_config("UnKDStudent", **SMALL, epochs=40, eval_step=40, learning_rate=0.05, distillation_weight=weight)
        init_seed(config["seed"], True)
        loaders = split.loaders(config)
        model = UnKDStudent(config, loaders.train._dataset)
        model.learn_from(pool)
        DistillationTrainer(config, model).fit(loaders.train, saved=False)
        found[weight] = agreement(model)
    assert (found[1.0] > found[0.0] + 0.1).all()
