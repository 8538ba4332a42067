"""RRD: its loss against a loop, its draws, and that sampling stands for the unsampled loss."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.quick_start import run_hetcomp


@pytest.fixture
def student(make_model, list_pool):
    """`student(**settings)`: an RRDStudent that has learnt from lists."""

    def make(**settings):
        model = make_model("RRDStudent", list_depth=20, n_interesting=6, n_uninteresting=9, **settings)
        model.learn_from(list_pool(2))
        model.on_epoch_start(0)
        return model

    return make


def users_of(model) -> torch.Tensor:
    return model.history.active_users[:12]


def by_hand(scores: list[float], ranked: list[int], others: list[int]) -> float:
    tail = math.fsum(math.exp(scores[item]) for item in others)
    left = [math.fsum(math.exp(scores[item]) for item in ranked[place:]) for place in range(len(ranked))]
    return math.fsum(math.log(mass + tail) - scores[item] for mass, item in zip(left, ranked))


@pytest.mark.parametrize("sampled", [True, False])
def test_the_loss_equals_a_loop(student, sampled) -> None:
    model = student(sampled=sampled)
    users = users_of(model)
    total = 0.0
    for user, scores in zip(users.tolist(), model.scores(users).tolist()):
        if sampled:
            ranked, others = ([i for i in part[user].tolist() if i] for part in (model.interesting, model.uninteresting))
        else:
            ranked = [item for item in model.lists.targets[user, :6].tolist() if item]
            trained = model.history.padded(torch.tensor([user]))[0].tolist()
            others = [item for item in range(1, model.n_items) if item not in {*ranked, *trained}]
        total += by_hand(scores, ranked, others)
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


def test_draws_come_from_the_list_in_its_order_and_from_outside_list_and_history(student) -> None:
    model = student()
    first = model.interesting.clone()
    for user in model.history.active_users.tolist():
        listed = [item for item in model.lists.targets[user].tolist() if item]
        places = [listed.index(item) for item in model.interesting[user].tolist() if item]
        assert places == sorted(set(places))
        trained = model.history.padded(torch.tensor([user]))[0].tolist()
        assert not set(model.uninteresting[user].tolist()) & {0, *listed, *trained}
    model.on_epoch_start(1)
    assert not torch.equal(model.interesting, first)


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "list_depth": 20}
        rows = run_hetcomp("RRDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
