"""IR-RRD: both sides of its loss against loops, its draws of users, and what the item side alone teaches."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teachers.item_lists import top_users

SMALL = {
    "list_depth": 20,
    "n_interesting": 6,
    "n_uninteresting": 9,
    "item_list_depth": 15,
    "n_interesting_users": 4,
    "n_uninteresting_users": 7,
}


@pytest.fixture
def student(make_model, trained_pool):
    """`student(**settings)`: an IRRRDStudent that has learnt from a teacher, scores in float64."""
    pool = trained_pool("EASE")

    def make(**settings):
        model = make_model("IRRRDStudent", **{**SMALL, **settings})
        model.learn_from(pool)
        model.on_epoch_start(0)
        return model.double()

    make.teacher = pool.teachers[0]
    return make


def by_hand(scores: list[float], n_ranked: int) -> float:
    """PL of the first scores above all others."""
    ranked, tail = scores[:n_ranked], math.fsum(map(math.exp, scores[n_ranked:]))
    return math.fsum(math.log(math.fsum(map(math.exp, ranked[place:])) + tail) - ranked[place] for place in range(n_ranked))


def side(table: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> float:
    """The mean over the rows of `table` of the list loss over the columns that are drawn, by loops."""
    total = 0.0
    for scores, ranked, others in zip(table.tolist(), first.tolist(), second.tolist()):
        ranked = [entity for entity in ranked if entity]
        total += by_hand([scores[entity] for entity in ranked + [entity for entity in others if entity]], len(ranked))
    return total / len(table)


def test_the_loss_equals_loops_over_users_and_over_their_items(student) -> None:
    model = student(item_weight=0.7)
    users = model.history.active_users[:5]
    everybody = torch.arange(model.history.n_users)
    scores = model.scores(everybody).detach()
    of_users = side(scores[users], model.drawn[0][users], model.drawn[1][users])
    items = sorted({*model.drawn[0][users].flatten().tolist(), *model.drawn[1][users].flatten().tolist()} - {0})
    of_items = side(scores.T[items], model.drawn_users[0][items], model.drawn_users[1][items])
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(of_users + 0.7 * of_items, rel=1e-9)


def test_without_sampling_the_items_are_the_users_lists(student) -> None:
    model = student(sampled=False)
    users = model.history.active_users[:3]
    assert model.items_of(users).tolist() == sorted(set(model.lists.targets[users, :6].flatten().tolist()) - {0})
    assert model.distillation_loss(Batch(users, None)).isfinite()


def test_an_item_draws_its_users_from_the_teachers_list_and_from_outside_list_and_history(student) -> None:
    model = student()
    teacher = student.teacher.scores(torch.arange(model.history.n_users))
    first = model.drawn_users[0].clone()
    for item in range(1, model.n_items):
        fans = model.item_history.padded(torch.tensor([item]))[0].tolist()
        free = [user for user in model.history.active_users.tolist() if user not in fans]
        listed = [user for user in model.item_lists[item].tolist() if user]
        assert set(listed) <= set(free)
        assert teacher[listed, item].tolist() == sorted(teacher[free, item].tolist(), reverse=True)[:15]  # EASE has ties
        places = [listed.index(user) for user in model.drawn_users[0][item].tolist()]
        assert places == sorted(set(places))
        assert set(model.drawn_users[1][item].tolist()) <= set(free) - set(listed)  # nobody without training
    model.on_epoch_start(1)
    assert not torch.equal(model.drawn_users[0], first)


def test_items_a_batch_are_limited(student) -> None:
    model = student(items_per_batch=3)
    asked = []
    whole = model.item_side_loss
    model.item_side_loss = lambda items: asked.append(items) or whole(items)
    model.distillation_loss(Batch(model.history.active_users, None)).backward()
    assert len(asked[0].unique()) == 3
    assert torch.equal(some_of(torch.arange(5), 5, model.generator), torch.arange(5))
    assert model.item_side_loss(torch.zeros(0, dtype=torch.int64)) == 0


def test_scores_from_the_item_side_are_the_students(student) -> None:
    model = student()
    items, users = torch.tensor([3, 1]), torch.tensor([[1, 2, 3], [7, 7, 0]])
    torch.testing.assert_close(model.scores_of_users(items, users), model.scores(torch.arange(8)).T[items[:, None], users])


def overlap(model) -> float:
    """Part of the items' five best users that student and teacher have in common."""
    without_list = torch.zeros(model.n_users, dtype=torch.bool)
    of_student = top_users(
        SimpleNamespace(scores=model.scores, max_block_mb=1, without_list=without_list), model.history, 5
    )[1:]
    return (of_student[:, :, None] == model.item_lists[1:, None, :5]).any(2).float().mean().item()


def test_the_item_side_alone_teaches_the_items_best_users(student) -> None:
    model = student()
    before = overlap(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for epoch in range(100):
        model.on_epoch_start(epoch)
        optimizer.zero_grad()
        model.item_side_loss(torch.arange(1, model.n_items)).backward()
        optimizer.step()
    assert overlap(model) > before + 0.3


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 20, "eval_step": 20, "learning_rate": 0.05, "teachers": ["EASE"], "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, **SMALL, "distillation_weight": weight}
        rows = run_hetcomp("IRRRDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1, fidelity
