"""CL-DRD: its loss against a loop, its last stage, how stages follow one another, and an exact resume."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.losses import plackett_luce_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.cldrdstudent import coarse_to_fine_loss
from recbole_hetcomp.quick_start import run_hetcomp


@pytest.fixture
def student(make_model, list_pool):
    """`student(**settings)`: a CLDRDStudent that has learnt from lists."""

    def make(**settings):
        model = make_model("CLDRDStudent", **{"ordered": [2, 4, 7], "stage_epochs": 3, **settings})
        model.learn_from(list_pool(2))
        model.on_epoch_start(0)
        return model

    return make


def log_sum(values: list[float]) -> float:
    return math.log(math.fsum(map(math.exp, values)))


@pytest.mark.parametrize(("epoch", "n"), [(0, 2), (2, 2), (3, 4), (6, 7), (99, 7)])
def test_the_loss_equals_a_loop_at_every_stage(student, epoch, n) -> None:
    model = student()
    model.on_epoch_start(epoch)
    users = model.history.active_users[:12]
    total = 0.0
    for user, scores in zip(users.tolist(), model.scores(users).double().tolist()):
        items = model.lists.targets[user].tolist()
        trained = model.history.padded(torch.tensor([user]))[0].tolist()
        rest = [scores[item] for item in range(1, model.n_items) if item not in {*items, *trained}]
        for place in range(7):
            below = [scores[item] for item in items[place:]] if place < n else [scores[items[place]]]
            total += log_sum(below + rest) - scores[items[place]]
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


def test_the_last_stage_is_plackett_luce_and_the_order_of_the_others_counts_for_nothing() -> None:
    scores, tail = torch.randn(4, 6, generator=torch.Generator().manual_seed(2)), torch.randn(4)
    present = torch.arange(6) < torch.tensor([[6], [3], [1], [0]])
    assert torch.equal(coarse_to_fine_loss(scores, tail, present, 6), plackett_luce_loss(scores, tail, present))
    mixed = scores[:, [0, 1, 5, 3, 4, 2]]
    everything = torch.ones_like(present)
    coarse, same = (coarse_to_fine_loss(part, tail, everything, 2) for part in (scores, mixed))
    assert torch.allclose(coarse, same)
    assert not torch.allclose(coarse, coarse_to_fine_loss(scores[:, [1, 0, 2, 3, 4, 5]], tail, everything, 2))


def test_lists_that_end_early_and_an_empty_tail_have_finite_gradients() -> None:
    scores = torch.tensor([[300.0, -300.0, 2.0], [1.0, 2.0, 3.0]], requires_grad=True)
    tail = torch.tensor([-torch.inf, 0.5], requires_grad=True)
    coarse_to_fine_loss(scores, tail, torch.tensor([[True] * 3, [False] * 3]), 1).sum().backward()
    assert scores.grad.isfinite().all()
    assert tail.grad.isfinite().all()
    assert not scores.grad[1].any()


def test_fixed_stages_wait_with_early_stopping_until_the_last(student) -> None:
    model = student()
    stages = []
    for epoch in range(9):
        model.on_epoch_start(epoch)
        stages.append((model.stage, model.may_stop_early))
    assert stages == [(0, False)] * 3 + [(1, False)] * 3 + [(2, True)] * 3
    assert student(patience_from_switch=False).may_stop_early


def test_a_plateau_ends_a_stage_and_progress_prolongs_it(student) -> None:
    model = student(stage_rule="plateau", stage_gain=0.01)
    far, near = model.ranking(50), torch.zeros(model.n_users, 50, dtype=torch.int32)
    near[:, :7] = model.lists.targets
    halfway = torch.where(torch.arange(50) < 3, near, 0)
    stages = []
    for epoch, ranked in enumerate([far, halfway, near, near, near, near], start=1):
        model.on_epoch_start(epoch)
        model.on_validation(ranked, epoch)
        stages.append(model.stage)
    assert stages == [0, 0, 0, 1, 1, 2]  # far, nearer, nearer still; no gain; the next stage's first; no gain


def test_a_plateau_is_judged_by_all_users_until_the_last_stage(student) -> None:
    model = student(stage_rule="plateau")
    assert model.ranks_everyone(4)
    model.stage = len(model.ordered) - 1
    assert not model.ranks_everyone(4)
    assert not student().ranks_everyone(4)


def test_a_resumed_curriculum_goes_on_where_it_was(student) -> None:
    model, other = (student(stage_rule="plateau") for _ in range(2))
    ranked = model.ranking(50)
    for epoch in range(1, 4):
        model.on_validation(ranked, epoch)
    other.load_distillation_state(model.distillation_state())
    assert (other.stage, other.nearest) == (model.stage, model.nearest) == (1, model.nearest)
    for epoch in range(4, 7):
        assert model.on_validation(ranked, epoch) == other.on_validation(ranked, epoch)
        assert model.stage == other.stage


@pytest.mark.parametrize("given", [{"ordered": [5, 5]}, {"ordered": []}, {"ordered": [1.5]}, {"stage_rule": "x"}])
def test_settings_out_of_range_are_named(make_model, given) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(given))}: "):
        make_model("CLDRDStudent", **given)


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 15, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "ordered": [5, 10, 20], "stage_epochs": 5}
        rows = run_hetcomp("CLDRDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
