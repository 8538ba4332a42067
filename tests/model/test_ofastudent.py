"""OFA: its loss against a loop, branches that every stage learns through and nobody serves, and teachers in any order."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.losses.soft_targets import soft_label_loss
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.testing.results import saved_state, serves_alike
from recbole_hetcomp.trainer.distillation import DistillationTrainer

NAME = "OFAStudent"
SMALL = {"list_depth": 20, "n_top": 5, "n_random": 7}
WITH_STAGES = {
    "LightGCN": ({"student": "LightGCN", "n_layers": 3}, 3),
    "HistoryEncoder": ({"student": "HistoryEncoder", "hidden_size": 6}, 2),
    "DL": ({"student": "DL", "mlp_hidden_size": [6, 5]}, 2),
    "prefixes of MF": ({"ofa_stages": "prefix"}, 3),
}


@pytest.fixture
def student(make_model, trained_pool):
    """`student(*teachers, **settings)`: one that has learnt from teachers (BPR)."""

    def make(*teachers, **settings):
        model = make_model(NAME, **{"embedding_size": 4, "teacher_rank": 8, **SMALL, **settings})
        model.learn_from(trained_pool(*(teachers or ("BPR",))))
        model.on_epoch_start(0)
        return model

    return make


def drawn_again(model, draw):
    """What `draw` makes of the model's draws as they would be next."""
    state = model.generator.get_state()
    made = draw()
    model.generator.set_state(state)
    return made


@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("case", WITH_STAGES)
def test_the_loss_equals_a_loop(student, batch, case, variant) -> None:
    model = student(**WITH_STAGES[case][0], ofa_variant=variant, ofa_gamma=1.4, branch_weight=0.3, score_temperature=2.0)
    model.requires_grad_(False)
    model.auxiliary["temperature"].logarithm.fill_(math.log(0.7))
    items = drawn_again(model, lambda: model.candidates(batch.users))
    stages, of_teacher = model.stages(batch.users, items), model.teacher
    total = 0.0
    for row, user in enumerate(batch.users.tolist()):
        there = [place for place, item in enumerate(items[row].tolist()) if item]
        soft = [float(of_teacher["user"][user] @ of_teacher["item"][items[row, place]]) for place in there]
        soft = [math.exp(score / float(model.deviations[user]) / 2.0) for score in soft]
        p = [mass / math.fsum(soft) for mass in soft]
        weights = [x if variant == "paper" else x**1.4 for x in p]
        weights[0] = (1 + p[0]) ** 1.4 - (variant == "code")
        logits = [model.pair_scores(batch.users, items)[row] / 0.7]
        for stage, branch in zip(stages, model.branches):
            mapped = branch(stage[row])
            logits.append(mapped[:, 0] if stage.dim() == 3 else of_teacher["item"][items[row]] @ mapped)
        for share, scores in zip([1.0] + [0.3] * len(stages), logits):
            mass = math.fsum(math.exp(scores[place]) for place in there)
            total -= share * math.fsum(w * math.log(math.exp(scores[k]) / mass) for w, k in zip(weights, there))
    assert model.distillation_loss(batch).item() == pytest.approx(total / len(batch.users), rel=1e-4)


def test_without_stages_and_at_gamma_one_it_is_plain_soft_labels(student, batch) -> None:
    """With the same gradient of the student's tables."""
    model = student(ofa_stages="none", ofa_gamma=1.0)
    tables = list(model.backbone.parameters())
    items, soft = drawn_again(model, lambda: model.labelled(batch))
    plain = soft_label_loss(model.pair_scores(batch.users, items), soft, items > 0).mean()
    ours = model.distillation_loss(batch)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    for found, expected in zip(torch.autograd.grad(ours, tables), torch.autograd.grad(plain, tables)):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("case", WITH_STAGES)
def test_every_stages_branch_gets_a_gradient_and_the_student_one_through_it(student, batch, case) -> None:
    settings, n_stages = WITH_STAGES[case]
    model = student(**settings)
    assert len(model.branches) == n_stages
    model.distillation_loss(batch).backward()
    for branch in model.branches:
        assert all(parameter.grad.any() for parameter in branch.parameters() if parameter.shape[-1] > 1)
    assert model.auxiliary["temperature"].logarithm.grad.any()
    items = model.candidates(batch.users)
    for stage, branch in zip(model.stages(batch.users, items), model.branches):
        learnt = branch(stage).square().sum()
        gradients = torch.autograd.grad(learnt, list(model.backbone.parameters()), retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.any() for gradient in gradients)


def test_mf_has_no_stages_unless_asked(student, caplog) -> None:
    with caplog.at_level("INFO"):
        assert len(student().branches) == 0
    assert "MF as a student has 0 stages" in caplog.text
    assert len(student(ofa_stages="prefix").branches) == 3
    assert len(student(student="LightGCN", ofa_stages="none").branches) == 0


def test_the_temperature_alone_has_no_decay(student) -> None:
    model = student(weight_decay=0.5)
    groups = DistillationTrainer(model.config, model).optimizer.param_groups
    temperature = model.auxiliary["temperature"].logarithm
    by_parameter = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert by_parameter.pop(id(temperature)) == 0
    assert set(by_parameter.values()) == {0.5}
    assert len(by_parameter) == len(list(model.parameters())) - 1


@pytest.mark.parametrize("case", ["LightGCN", "prefixes of MF"])
def test_branches_are_dropped_and_nothing_else_changes(student, batch, case) -> None:
    """The served state is the bare student's, and its predictions are the same bits before and after."""
    model = student(**WITH_STAGES[case][0])
    bare = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    served, before = model.served_state(), model.scores(batch.users)
    model.finish_training()
    assert torch.equal(model.scores(batch.users), before)
    assert {name.removeprefix("backbone.") for name in served} == set(bare)
    assert all(torch.equal(served[f"backbone.{name}"], value) for name, value in bare.items())
    assert not list(model.auxiliary.parameters())


@pytest.mark.parametrize("case", WITH_STAGES)
def test_a_trained_student_is_saved_bare_and_serves(settings, case) -> None:
    teachers = {"teachers": ["BPR"], "base_loss_weight": 1.0, "without_distillation": False}
    config = {**settings, **teachers, **SMALL, **WITH_STAGES[case][0]}
    result = run_hetcomp(NAME, "toy", config_dict=config, arguments=(), compare=False)
    assert all(name.startswith("backbone.") for name in saved_state(result))
    assert serves_alike(result)


@pytest.mark.parametrize("teachers", ["mean", "per_teacher"])
def test_the_order_of_the_teachers_changes_nothing(make_model, trained_pool, batch, teachers) -> None:
    losses = []
    for names in (("BPR", "MultiVAE", "LightGCN"), ("LightGCN", "BPR", "MultiVAE")):
        model = make_model(NAME, embedding_size=4, teacher_rank=8, **SMALL, ofa_teachers=teachers, ofa_gamma=1.3)
        model.learn_from(trained_pool(*names))
        model.on_epoch_start(0)
        losses.append(model.distillation_loss(batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_each_teacher_is_asked_for_its_own_standardised_scores(make_model, trained_pool, batch, z_scores) -> None:
    model = make_model(NAME, embedding_size=4, teacher_rank=8, **SMALL, ofa_teachers="per_teacher", score_temperature=0.5)
    pool = trained_pool("BPR", "EASE")
    model.learn_from(pool)
    model.on_epoch_start(0)
    items, soft = model.labelled(batch)
    assert soft.shape == (2, *items.shape)
    for of_teacher, teacher in zip(soft, pool.teachers):
        for row, user in enumerate(batch.users.tolist()):
            zs = z_scores(model, user, teacher.scores(batch.users[row][None])[0])
            expected = torch.where(items[row] > 0, zs[items[row]] / 0.5, 0.0)
            torch.testing.assert_close(of_teacher[row].double(), expected, rtol=1e-3, atol=1e-4)
    again = model.labelled(batch)
    assert torch.equal(items, again[0])  # the candidates are the epoch's
    model.on_epoch_start(1)
    assert not torch.equal(items, model.labelled(batch)[0])


def test_it_agrees_more_with_its_teacher_than_the_student_alone(settings) -> None:
    teacher = {"teachers": ["BPR"], "teacher_config": {"all": {"epochs": 20, "learning_rate": 0.05}}}
    training = {"epochs": 40, "eval_step": 10, "learning_rate": 0.05, "train_batch_size": 64}
    config = {**settings, **teacher, **training, **SMALL, "embedding_size": 4, "without_distillation_config": training}
    result = run_hetcomp(NAME, "toy", config_dict=config, arguments=())
    alone, taught = result["comparison"][-2:]
    assert taught["fidelity"] > alone["fidelity"]
