"""RCE-KD: its loss against a loop, its sets and weights, that an epoch depends on no other, and what it teaches."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.rcekdstudent import overlap_weights, sampling_log_weights, union_of_samples
from recbole_hetcomp.quick_start import run_hetcomp

K, L, DEPTH, TEMPERATURE = 6, 8, 15, 0.7


@pytest.fixture
def student(from_scores):
    """`student(**settings)`: an RCEKDStudent that has learnt from a teacher with random scores."""

    def make(**settings):
        small = {"n_ranked": K, "n_sampled": L, "sample_depth": DEPTH, "temperature": TEMPERATURE, "overlap_weight": 3.0}
        return from_scores("RCEKDStudent", **{**small, **settings})

    return make


def cross_entropy(soft: list[float], scores: list[float]) -> float:
    p, q = ([math.exp(x) / math.fsum(map(math.exp, part)) for x in part] for part in (soft, scores))
    return -math.fsum(a * math.log(b) for a, b in zip(p, q))


def test_the_loss_equals_a_loop(student, z_scores) -> None:
    model, table = student()
    users = model.history.active_users[:12]
    total = 0.0
    for user, own in zip(users.tolist(), model.scores(users).double().tolist()):
        trained = model.history.padded(torch.tensor([user]))[0].tolist()
        ranked = sorted((item for item in range(1, model.n_items) if item not in trained), key=lambda item: -own[item])
        listed, drawn = model.lists.targets[user].tolist(), model.items[user, K : K + L].tolist()
        assert len({*drawn}) == L
        assert {*drawn} <= {*ranked[:DEPTH]}
        union = [*drawn, *(item for item in listed if item not in drawn and item not in ranked[:K])]
        losses = []
        for items in (ranked[:K], union):
            parts = ([float(row[item]) / TEMPERATURE for item in items] for row in (z_scores(model, user, table[user]), own))
            losses.append(cross_entropy(*parts))
        omega = math.exp(-3.0 * len({*listed} & {*drawn}) / K)
        total += (1 - omega) * losses[0] + omega * losses[1]
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


def test_no_item_is_in_a_set_twice_and_none_is_observed(student) -> None:
    model, _ = student()
    users = model.history.active_users
    assert not model.history.contains(users[:, None], model.items[users]).any()
    for user in users.tolist():
        for part in (model.items[user, :K], model.items[user, K:]):
            present = part[part > 0].tolist()
            assert len(present) == len(set(present))
    first, drawn, lists = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 7, 0]]), torch.tensor([[3, 7, 9]])
    assert union_of_samples(drawn, lists, first).tolist() == [[2, 7, 0, 0, 0, 9]]


def test_omega_is_between_its_bounds_and_reaches_them(student) -> None:
    model, _ = student()
    omega = model.omega[model.history.active_users]
    assert ((omega >= math.exp(-3.0)) & (omega <= 1.0)).all()
    assert len(omega.unique()) > 1
    lists = torch.tensor([[1, 2, 3, 4]] * 3 + [[1, 0, 0, 0]])
    drawn = torch.tensor([[5, 6, 7, 8], [4, 3, 2, 1], [1, 2, 8, 0], [1, 2, 0, 0]])
    expected = [1.0, math.exp(-3), math.exp(-1.5), math.exp(-3)]
    assert overlap_weights(drawn, lists, 3.0).tolist() == pytest.approx(expected)


def test_items_above_many_of_the_teachers_are_drawn_rather() -> None:
    """Of the list 9 1 8 2, where 9 is not ranked: 4 are at rank 1 or below, 4 at 2, 3 at 3, 2 at 4; only 9 at the last."""
    ranked, lists = torch.tensor([[5, 1, 8, 2, 6, 0]]), torch.tensor([[9, 1, 8, 2]])
    weights = sampling_log_weights(ranked, lists, 2.0)
    assert weights.tolist() == [[2.5, 2.5, 2.0, 1.5, 1.0, -math.inf]]
    many = torch.arange(1, 101)[None]
    assert sampling_log_weights(many, many, 1.0)[0, [0, 50, 51, 99]].tolist() == [51.0, 51.0, 50.0, 2.0]


def test_a_student_that_scores_as_its_teacher_up_to_scale_has_nothing_to_learn(
    student, score_table, standardise_own_scores
) -> None:
    model, _ = student()
    standardise_own_scores(model)
    users = torch.arange(model.n_users)
    factor, constant = torch.rand(2, len(users), 1) + 0.5
    model.teacher.pool.teachers[0].model = score_table(factor * model.scores(users).detach() + constant)
    vars(model.teacher).pop("_moments", None)
    model.on_epoch_start(1)
    model.distillation_loss(Batch(model.history.active_users, None)).backward()
    assert max(float(parameter.grad.abs().max()) for parameter in model.backbone.parameters()) < 1e-6


def test_an_epoch_depends_on_the_student_and_the_generator_alone(student) -> None:
    """So a resumed training, which has these two, goes on as if nothing had happened."""
    model, _ = student()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.on_epoch_start(1)
    before = model.items
    parameters, state, randomness = model.state_dict(), model.distillation_state(), model.generator.get_state()
    model.on_epoch_start(2)
    resumed, _ = student()
    resumed.load_state_dict(parameters)
    resumed.load_distillation_state(state)
    resumed.generator.set_state(randomness)
    resumed.on_epoch_start(2)
    assert not torch.equal(model.items, before)
    for name in ("items", "soft", "omega"):
        assert torch.equal(getattr(resumed, name), getattr(model, name))


@pytest.mark.parametrize("given", [{"sample_depth": 20}])
def test_settings_out_of_range_are_named(make_model, given) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(given))}: "):
        make_model("RCEKDStudent", **given)


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "n_ranked": 20, "n_sampled": 20, "sample_depth": 60}
        rows = run_hetcomp("RCEKDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
