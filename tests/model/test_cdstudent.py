"""CD: its loss against a loop, its rank-aware draws, and that soft labels bring the student nearer to the teacher."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.cdstudent import draw_places, soft_label_loss, soft_labels
from recbole_hetcomp.quick_start import run_hetcomp


@pytest.fixture
def student(from_scores):
    """`student(**settings)`: a CDStudent that has learnt from a teacher with random scores."""

    def make(**settings):
        return from_scores("CDStudent", **{"list_depth": 20, "n_drawn": 6, "label_shift": 0.3, **settings})

    return make


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_the_loss_equals_a_loop(student, z_scores, guide) -> None:
    model, table = student(guide=guide)
    users = model.history.active_users[:12]
    total = 0.0
    for user, scores in zip(users.tolist(), model.scores(users).double().tolist()):
        items, teacher = model.items[user].tolist(), z_scores(model, user, table[user])
        assert len({*items} - {0}) == 6
        for item in items:
            label, found = (1 / (1 + math.exp(-x)) for x in ((float(teacher[item]) + 0.3) / 2.0, scores[item]))
            total -= label * math.log(found) + (1 - label) * math.log(1 - found)
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_draws_come_from_the_guides_ranking_outside_the_history_and_change(student, guide) -> None:
    model, _ = student(guide=guide)
    users = model.history.active_users
    ranked = model.lists.targets if guide == "teacher" else model.ranking(20)
    assert not model.history.contains(users[:, None], model.items[users]).any()
    for user in users.tolist():
        assert {*model.items[user].tolist()} <= {*ranked[user].tolist()}
    first = model.items
    model.on_epoch_start(1)
    assert not torch.equal(model.items, first)


def test_a_student_guide_follows_the_student(student) -> None:
    model, _ = student(guide="student", n_drawn=20)
    with torch.no_grad():
        model.backbone.item_embedding.weight.neg_()
    model.on_epoch_start(1)
    assert torch.equal(model.items.int(), model.ranking(20))


def test_rank_1_is_drawn_as_much_oftener_than_rank_100_as_the_temperature_says() -> None:
    """One draw from 100: exp(99 / 50) = 7.2 times as often. With exp(-rank / 3000 / 20) it would be as often."""
    lists = torch.arange(1, 101).expand(100_000, -1)
    places = draw_places(lists, 1, 50.0, torch.Generator().manual_seed(0)).flatten()
    frequencies = torch.bincount(places, minlength=100) / len(places)
    expected = (-torch.arange(100) / 50.0).softmax(0)
    assert (expected[0] / expected[99]).item() == pytest.approx(math.exp(99 / 50), rel=1e-4)
    assert (frequencies - expected).abs().max() < 5 * (expected[0] / len(places)).sqrt()


def test_no_place_is_drawn_twice_and_empty_ones_only_where_nothing_is_left() -> None:
    lists = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 0, 0, 0, 0, 0], [1, 2, 3, 0, 0, 0]]).repeat(300, 1)
    places = draw_places(lists, 4, 0.5, torch.Generator().manual_seed(0))
    assert (places[:, 1:] > places[:, :-1]).all()
    drawn = (lists.gather(1, places) > 0).sum(1)
    assert drawn.tolist() == [4, 1, 3] * 300
    assert draw_places(lists, 9, 0.5, torch.Generator()).shape == (900, 6)


def test_the_least_loss_is_at_the_teachers_own_label_and_padding_adds_nothing() -> None:
    labels = soft_labels(torch.tensor([[2.0, -1.0, 5.0]]), 2.0, 0.0)
    scores = torch.tensor([[1.0, -0.5, 3.0]], requires_grad=True)
    present = torch.tensor([[True, True, False]])
    soft_label_loss(scores, labels, present).sum().backward()
    assert scores.grad.abs().max() < 1e-6
    assert soft_label_loss(torch.full((1, 3), 200.0), labels, present).isfinite().all()


@pytest.mark.parametrize(
    "given",
    [{"guide": "both"}, {"guide": "student", "curriculum": True}],
)
def test_settings_out_of_range_are_named(make_model, given) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(given))}: "):
        make_model("CDStudent", **given)


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "list_depth": 80, "label_temperature": 0.2}
        rows = run_hetcomp("CDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
