"""PCKD: its two forms against loops, that only the projectors learn from them, and that they keep the student's order."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.model.distilled_recommender.pckdstudent import pair_consistency

NAME, SMALL = "PCKDStudent", {"list_depth": 20, "n_experts": 1}
FORMS = ("list", "pair")


def scores_by_hand(model, user: int, items: list[int]) -> tuple[list[float], list[float]]:
    """(before, after) with one expert, whose gate is 1."""

    def image(name: str, row: torch.Tensor) -> torch.Tensor:
        experts = model.auxiliary[name]
        return (row @ experts.first[0] + experts.first_bias[0]).relu() @ experts.second[0] + experts.second_bias[0]

    users, table = model.embeddings()
    before = [float(users[user] @ table[item]) for item in items]
    return before, [float(image("user", users[user]) @ image("item", table[item])) for item in items]


@pytest.mark.parametrize("form", FORMS)
def test_the_consistency_equals_a_loop(learnt, batch, form) -> None:
    model = learnt(NAME, consistency_form=form, **SMALL)
    model.requires_grad_(False)
    state = model.generator.get_state()
    found = model.consistency(batch.users)
    model.generator.set_state(state)
    for user, items, value in zip(batch.users.tolist(), model.candidates(batch.users).tolist(), found.tolist()):
        before, after = scores_by_hand(model, user, items)
        if form == "list":
            target, chance = ([math.exp(score / 0.1) for score in scores] for scores in (before, after))
            expected = -sum(t / sum(target) * math.log(c / sum(chance)) for t, c in zip(target, chance))
        else:
            pairs = [(a, b) for a in range(5) for b in range(a)]
            products = [(after[a] - after[b]) * (before[a] - before[b]) for a, b in pairs]
            expected = sum(math.log1p(math.exp(-product)) for product in products) / len(products)
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_absent_candidates_make_no_pairs() -> None:
    before, after = torch.randn(2, 4), torch.randn(2, 4)
    present = torch.tensor([[True, True, False, False], [True, False, False, False]])
    found = pair_consistency(before, after, present)
    assert found[0].item() == pytest.approx(pair_consistency(before[:1, :2], after[:1, :2], present[:1, :2]).item())
    assert found[1] == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_consistency_trains_the_projectors_alone(learnt, batch, form) -> None:
    model = learnt(NAME, consistency_form=form, **SMALL)
    model.consistency(batch.users).sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.backbone.parameters())
    assert model.auxiliary["user"].first.grad.any()
    assert model.auxiliary["item"].second.grad.any()


def test_the_projections_keep_the_students_order_better_than_des_do(learnt, train_alone) -> None:
    kept = []
    for weight in (0.0, 5.0):
        model = learnt(NAME, consistency_weight=weight, preference_temperature=0.02, **SMALL)
        train_alone(model, 100, rate=0.01)
        model.requires_grad_(False)
        pairs = [scores_by_hand(model, user, [2, 9, 17, 33, 60]) for user in range(1, 41)]
        gaps = [torch.tensor(scores)[:, :, None] - torch.tensor(scores)[:, None, :] for scores in zip(*pairs)]
        kept.append((gaps[0] * gaps[1] > 0).sum().item() / (40 * 20))
    assert kept[1] > kept[0] + 0.02


def test_training_puts_the_teachers_vectors_into_the_students(after_training, missed) -> None:
    plain, distilled = (missed(after_training(NAME, weight, **SMALL)) for weight in (0.0, 10.0))
    assert distilled < 0.7 * plain
