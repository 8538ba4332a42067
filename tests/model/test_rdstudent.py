"""RD: its loss against a loop, its weights, its estimate of a rank, and that it brings the student nearer to the list."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.rdstudent import discrepancy_weights, estimated_ranks, position_weights
from recbole_hetcomp.quick_start import run_hetcomp

SMALL = {"n_distilled": 6, "position_temperature": 2.0, "discrepancy_start": 3, "n_unobserved": 9}


@pytest.fixture
def student(make_model, list_pool):
    """`student(**settings)`: an RDStudent that has learnt from lists."""

    def make(**settings):
        model = make_model("RDStudent", **{**SMALL, **settings})
        model.learn_from(list_pool(2))
        return model

    return make


@pytest.mark.parametrize(("epoch", "renormalise"), [(2, True), (3, False), (3, True)])
def test_the_loss_equals_a_loop(student, epoch, renormalise) -> None:
    model = student(renormalise=renormalise)
    model.on_epoch_start(epoch)
    users = model.history.active_users[:12]
    total = 0.0
    for user, scores in zip(users.tolist(), model.scores(users).double().tolist()):
        items = [item for item in model.lists.targets[user].tolist() if item]
        weights = [math.exp(-rank / 2.0) for rank in range(len(items))]
        weights = [weight / math.fsum(weights) for weight in weights]
        if epoch >= 3:
            drawn = model.unobserved[user].tolist()
            for place, item in enumerate(items):
                higher = sum(scores[other] > scores[item] for other in drawn)
                rank = math.floor((model.n_items - 2) * higher / len(drawn))
                weights[place] *= max(math.tanh(0.1 * (rank - place)), 0.0)
            if renormalise:
                weights = [weight / max(math.fsum(weights), 1e-12) for weight in weights]
        total += math.fsum(weight * math.log1p(math.exp(-scores[item])) for weight, item in zip(weights, items))
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


def test_position_weights_fall_by_e_and_sum_up_to_one() -> None:
    weights = position_weights(torch.tensor([[True] * 100, [True, True, False] + [False] * 97]), 10.0)
    assert weights[0, 0] / weights[0, 99] == pytest.approx(math.exp(9.9), rel=1e-3)
    assert weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert not weights[1, 2:].any()
    assert not position_weights(torch.zeros(1, 3, dtype=torch.bool), 1.0).any()


def test_a_sample_of_everything_gives_the_rank_itself() -> None:
    """(I - 1) of I - 1 others: the estimate is then exact, ties counting for the item."""
    everything = torch.randperm(50, generator=torch.Generator().manual_seed(1)).float()[None]
    scores = torch.tensor([[49.0, 30.0, 0.0]])
    present = everything != 30  # the sample: 49 others
    assert estimated_ranks(scores, everything, present, 50).tolist() == [[0, 19, 48]]
    assert estimated_ranks(scores, everything, torch.zeros_like(present), 50).tolist() == [[0, 0, 0]]


def test_only_items_that_the_student_ranks_too_low_have_a_discrepancy() -> None:
    weights = discrepancy_weights(torch.tensor([[0, 0, 2, 13, 1000]]), 0.1)[0]
    assert weights[:3].tolist() == [0.0, 0.0, 0.0]
    assert weights[3:].tolist() == pytest.approx([math.tanh(1.0), 1.0])


def test_the_sample_is_unobserved_and_drawn_anew_from_its_first_epoch_on(student) -> None:
    model = student()
    model.on_epoch_start(2)
    assert model.unobserved is None
    model.on_epoch_start(3)
    first = model.unobserved
    users = model.history.active_users
    assert (first[users] > 0).all()
    assert not model.history.contains(users[:, None], first[users]).any()
    model.on_epoch_start(4)
    assert not torch.equal(model.unobserved, first)


def test_the_weights_carry_no_gradient(student) -> None:
    model = student()
    model.on_epoch_start(3)
    users = model.history.active_users[:3]
    model.distillation_loss(Batch(users, None)).backward()
    listed = torch.zeros(model.n_items, dtype=torch.bool)
    listed[model.lists.targets[users].long().flatten()] = True
    only_drawn = ~listed
    only_drawn[0] = False
    assert only_drawn.any()
    assert not model.backbone.item_embedding.weight.grad[only_drawn].any()
    assert model.backbone.item_embedding.weight.grad[listed].any()


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "position_temperature": 10.0}
        rows = run_hetcomp("RDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
