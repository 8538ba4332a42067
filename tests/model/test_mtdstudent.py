"""MTD: its loss against a loop, its uniform case, what its weights learn, and that they are no part of the student."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.losses import log_mass, plackett_luce_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.mtdstudent import weighted_loss
from recbole_hetcomp.model.lists_student import membership, tails
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.trainer.distillation import DistillationTrainer

N_TEACHERS = 3


@pytest.fixture
def student(make_model, list_pool):
    """`student(**settings)`: an MTDStudent that has learnt from lists."""

    def make(**settings):
        model = make_model("MTDStudent", **{"n_ranked": 6, **settings})
        model.learn_from(list_pool(N_TEACHERS))
        model.on_epoch_start(0)
        return model

    return make


def plackett_luce(model, user: int, scores: list[float], ranked: list[int]) -> float:
    trained = model.history.padded(torch.tensor([user]))[0].tolist()
    rest = [math.exp(scores[item]) for item in range(1, model.n_items) if item not in {*ranked, *trained}]
    left = [rest + [math.exp(scores[item]) for item in ranked[place:]] for place in range(len(ranked))]
    return math.fsum(math.log(math.fsum(mass)) - scores[item] for mass, item in zip(left, ranked))


@pytest.mark.parametrize("list_weights", ["uniform", "global", "user"])
def test_the_loss_equals_a_loop(student, list_weights, list_pool) -> None:
    model = student(list_weights=list_weights, entropy_weight=0.7)
    users = model.history.active_users[:12]
    if list_weights != "uniform":
        torch.nn.init.normal_(model.auxiliary["list_weights"].weight)
    lists = list_pool(N_TEACHERS).topk(6)
    total = 0.0
    for user, scores in zip(users.tolist(), model.scores(users).double().tolist()):
        losses = [plackett_luce(model, user, scores, ranked) for ranked in lists[:, user].tolist()]
        if list_weights == "uniform":
            total += math.fsum(losses) / N_TEACHERS
            continue
        logits = model.auxiliary["list_weights"].weight[user if list_weights == "user" else 0].tolist()
        weights = [math.exp(x) / math.fsum(map(math.exp, logits)) for x in logits]
        total += math.fsum(a * loss + 0.7 * a * math.log(a) for a, loss in zip(weights, losses))
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


def test_the_losses_of_the_lists_equal_a_loop_and_an_empty_list_has_none(student) -> None:
    model = student()
    users = model.history.active_users[:12]
    model.learned_lists[users[0], 1] = 0
    model.members = membership(model.learned_lists)
    losses, has_list = model.list_losses(users)
    assert (~has_list).nonzero().tolist() == [[0, 1]]
    for row, (user, scores) in enumerate(zip(users.tolist(), model.scores(users).double().tolist())):
        for m, ranked in enumerate(model.learned_lists[user].tolist()):
            expected = plackett_luce(model, user, scores, ranked) if has_list[row, m] else 0.0
            assert losses[row, m].item() == pytest.approx(expected, rel=1e-4)


def test_uniform_weights_are_the_mean_of_each_lists_plackett_luce(student) -> None:
    model = student(list_weights="uniform")
    users = model.history.active_users
    scores, history = model.scores(users), model.history.padded(users)
    alone = [
        plackett_luce_loss(scores.gather(1, ranked.long()), log_mass(scores, torch.cat([history, ranked], 1)), ranked > 0)
        for ranked in model.learned_lists[users].unbind(1)
    ]
    assert len(model.auxiliary) == 0
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)


def test_tails_of_lists_that_share_items_and_end_early() -> None:
    scores = torch.randn(1, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    items = torch.tensor([[[3, 4, 5], [5, 4, 9], [9, 0, 0], [0, 0, 0]]])
    least = log_mass(scores, items.flatten(1))
    found = tails(scores[0][items], membership(items), least)
    expected = torch.stack([log_mass(scores, ranked) for ranked in items.unbind(1)], 1)
    assert torch.allclose(found, expected)
    nothing_else = tails(scores[0][items], membership(items), torch.full_like(least, -torch.inf))
    assert nothing_else.isfinite().all()


def test_the_best_weights_are_what_the_entropy_allows_and_none_without_it() -> None:
    losses = torch.tensor([[3.0, 1.0, 2.0]])
    logits = (-losses / 0.5).requires_grad_()
    has_list = torch.ones(1, 3, dtype=torch.bool)
    weighted_loss(losses, logits, 0.5, has_list).sum().backward()
    assert logits.grad.abs().max() < 1e-6
    even = torch.zeros(1, 3, requires_grad=True)
    weighted_loss(losses, even, 0.0, has_list).sum().backward()
    assert even.grad[0].argmin() == 1  # without entropy the easiest teacher gains, whatever its weight


@pytest.mark.parametrize("entropy_weight", [0.0, 10.0])
def test_a_teacher_without_a_list_takes_no_weight_from_those_who_have_one(entropy_weight) -> None:
    losses = torch.tensor([[0.0, 300.0, 320.0], [0.0, 0.0, 0.0]])
    has_list = torch.tensor([[False, True, True], [False, False, False]])
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(6)).requires_grad_()
    found = weighted_loss(losses, logits, entropy_weight, has_list)
    found.sum().backward()
    own = logits.detach()[:1, 1:].requires_grad_()
    expected = weighted_loss(losses[:1, 1:], own, entropy_weight, has_list[:1, 1:])
    expected.sum().backward()
    torch.testing.assert_close(found, torch.cat([expected, torch.zeros(1)]))
    torch.testing.assert_close(logits.grad, torch.cat([torch.nn.functional.pad(own.grad, (1, 0)), torch.zeros(1, 3)]))


@pytest.mark.parametrize("list_weights", ["uniform", "global", "user"])
def test_a_teacher_without_lists_changes_nothing_for_the_others(student, list_weights) -> None:
    model = student(list_weights=list_weights)
    users = model.history.active_users[:6]
    without_list = torch.zeros_like(model.learned_lists[:, :1])
    spoken = model.distillation_loss(Batch(users, None)).item()
    model.learned_lists = torch.cat([model.learned_lists, without_list], 1)
    model.members = membership(model.learned_lists)
    if list_weights != "uniform":
        table = model.auxiliary["list_weights"]
        table.weight = torch.nn.Parameter(torch.nn.functional.pad(table.weight.detach(), (0, 1), value=3.0))
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(spoken, rel=1e-5)


def test_the_weights_are_trained_and_not_saved_with_the_student(student) -> None:
    model = student(list_weights="user")
    users = model.history.active_users[:5]
    model.distillation_loss(Batch(users, None)).backward()
    gradient = model.auxiliary["list_weights"].weight.grad
    assert gradient[users].any(1).all()
    assert gradient.any(1).sum() == len(users)
    assert any(name.startswith("auxiliary.") for name in model.state_dict())
    assert not any(name.startswith("auxiliary.") for name in model.served_state())


@pytest.mark.parametrize("list_weights", ["uniform", "global", "user"])
def test_weight_decay_pulls_at_the_student_and_not_at_the_weights(student, list_weights) -> None:
    model = student(list_weights=list_weights, weight_decay=0.1)
    decay = {
        id(parameter): group["weight_decay"]
        for group in DistillationTrainer(model.config, model).optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decay) == len(list(model.parameters()))
    assert {decay[id(parameter)] for parameter in model.backbone.parameters()} == {0.1}
    assert {decay[id(parameter)] for parameter in model.auxiliary.parameters()} == (
        set() if list_weights == "uniform" else {0.0}
    )


def test_under_a_curriculum_the_lists_are_those_of_each_users_checkpoint(student, list_pool) -> None:
    model = student(curriculum=True)
    first, last = (list_pool(N_TEACHERS).topk(6, stage) for stage in (0, -1))
    assert torch.equal(model.learned_lists, first.transpose(0, 1))
    model.lists.curriculum.stage[1, 7] = 1
    model.on_epoch_start(1)
    assert torch.equal(model.learned_lists[7, 1], last[1, 7])
    assert torch.equal(model.learned_lists[7, 0], first[0, 7])


@pytest.mark.parametrize("given", [{"list_weights": "x"}])
def test_settings_out_of_range_are_named(make_model, given) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(given))}: "):
        make_model("MTDStudent", **given)


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "n_ranked": 20}
        result = run_hetcomp("MTDStudent", "toy", config_dict=config, arguments=())
        fidelity[weight] = next(row["fidelity"] for row in result["comparison"] if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
    assert len(result["model"].auxiliary) == 0
