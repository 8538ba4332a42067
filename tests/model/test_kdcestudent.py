"""KD-CE: its loss against a loop for each guide, its zero, and that it brings the student nearer to the teacher."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.kdcestudent import tempered
from recbole_hetcomp.quick_start import run_hetcomp

TEMPERATURE = 0.7


@pytest.fixture
def student(from_scores):
    """`student(**settings)`: a KDCEStudent that has learnt from a teacher with random scores."""

    def make(**settings):
        return from_scores("KDCEStudent", **{"n_soft_labels": 7, "temperature": TEMPERATURE, **settings})

    return make


def cross_entropy(soft: list[float], scores: list[float]) -> float:
    p, q = ([math.exp(x) / math.fsum(map(math.exp, part)) for x in part] for part in (soft, scores))
    return -math.fsum(a * math.log(b) for a, b in zip(p, q))


def log_sum(values: list[float]) -> float:
    return math.log(math.fsum(map(math.exp, values)))


@pytest.mark.parametrize("rest_mass", [None, 0.25])
@pytest.mark.parametrize("guide", ["student", "teacher", "catalogue"])
def test_the_loss_equals_a_loop(student, z_scores, guide, rest_mass) -> None:
    model, table = student(guide=guide, rest_mass=rest_mass)
    users = model.history.active_users[:12]
    total = 0.0
    for user, own in zip(users.tolist(), model.scores(users).double().tolist()):
        trained = model.history.padded(torch.tensor([user]))[0].tolist()
        free = [item for item in range(1, model.n_items) if item not in trained]
        ranked = sorted(free, key=lambda item: -own[item])[:7]
        items = ranked if guide == "student" else [item for item in model.lists.targets[user].tolist() if item]
        teacher, scores = (
            [row[i] / TEMPERATURE for i in range(model.n_items)]
            for row in (z_scores(model, user, table[user]).tolist(), own)
        )
        soft, found = ([row[item] for item in items] for row in (teacher, scores))
        if guide == "catalogue":
            rest = [item for item in free if item not in items]
            odds = None if rest_mass is None else math.log(rest_mass / (1 - rest_mass))
            soft.append(log_sum([teacher[item] for item in rest]) if odds is None else log_sum(soft) + odds)
            found.append(log_sum([scores[item] for item in rest]))
        total += cross_entropy(soft, found)
    assert model.distillation_loss(Batch(users, None)).item() == pytest.approx(total / len(users), rel=1e-4)


def test_what_a_teachers_model_draws_when_it_is_built_is_no_part_of_the_training(student, score_table) -> None:
    """It is built at the first epoch's start, or after a resume at another's: both have to train alike."""
    model, table = student()
    del model.teacher.pool.teachers[0].model
    model.teacher.pool.teachers[0].load = lambda: torch.rand(3) is not None and score_table(table)
    state = torch.get_rng_state()
    model.items = model.items[:0]
    model.on_epoch_start(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("guide", ["student", "teacher", "catalogue"])
def test_a_student_that_scores_as_its_teacher_up_to_scale_has_nothing_to_learn(
    student, score_table, standardise_own_scores, guide
) -> None:
    """Each user's scores with a constant and a factor of their own: the student learns them with a deviation of 1."""
    model, _ = student(guide=guide)
    standardise_own_scores(model)
    users = torch.arange(model.n_users)
    factor, constant = torch.rand(2, len(users), 1) + 0.5
    table = score_table(factor * model.scores(users).detach() + constant)
    model.teacher.pool.teachers[0].model = table
    largest = []
    for _ in ("the same scores", "others"):
        model.items = model.items[:0]
        vars(model.teacher).pop("_moments", None)
        model.on_epoch_start(0)
        model.zero_grad()
        model.distillation_loss(Batch(model.history.active_users, None)).backward()
        largest.append(max(float(parameter.grad.abs().max()) for parameter in model.backbone.parameters()))
        table.scores = table.scores + torch.randn_like(table.scores)
    assert largest[0] < min(1e-6, 1e-5 * largest[1])


@pytest.mark.parametrize("given", [{}, {"student": "DL"}, {"student": "NeuMF"}, {"student": "NeuMF", "tail_samples": 9}])
def test_a_tempered_catalogue_has_the_scores_divided(make_model, given) -> None:
    model = make_model("KDCEStudent", mf_embedding_size=8, mlp_embedding_size=8, mlp_hidden_size=[8], **given)
    users, nothing, items = torch.tensor([3, 5]), torch.zeros(2, 0, dtype=torch.int64), torch.tensor([[4, 9], [1, 30]])
    found = tempered(model.catalogue(users), 2.0)
    assert torch.allclose(found.listed(items).scores, model.scores(users).gather(1, items) / 2, atol=1e-6)
    if "tail_samples" not in given:
        assert torch.allclose(found.log_mass(nothing), (model.scores(users)[:, 1:] / 2).logsumexp(1), atol=1e-5)


@pytest.mark.parametrize("given", [{"guide": "both"}, {"rest_mass": 1.0}, {"guide": "student", "curriculum": True}])
def test_settings_out_of_range_are_named(make_model, given) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(given))}: "):
        make_model("KDCEStudent", **given)


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, "distillation_weight": weight, "n_soft_labels": 20}
        rows = run_hetcomp("KDCEStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.2


@pytest.mark.parametrize("student", ["MF", "ML", "HistoryEncoder"])
def test_the_memory_that_scores_may_take_is_the_settings__tempered_too(make_model, split, student) -> None:
    users, nothing = split.history.active_users[:5], torch.zeros(5, 1, dtype=torch.int64)
    for budget, kept in ((64, True), (0.0001, False)):
        catalogue = make_model("KDCEStudent", student=student, max_block_mb=budget).vectors(users)
        for scores in (catalogue, tempered(catalogue, 2.0)):
            assert scores.stored_bytes == int(budget * 2**20)
            assert bool(scores.log_mass(nothing).grad_fn.saved_tensors[4:]) == kept
