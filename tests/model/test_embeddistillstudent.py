"""EmbedDistill: its parts against loops, the optimum of PCA, the bound on the scores, and the folded item table."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.distilled_recommender.embeddistillstudent import distances
from recbole_hetcomp.quick_start import run_hetcomp

NAME, SIDES = "EmbedDistillStudent", ("asymmetric", "symmetric")
SMALL = {"list_depth": 20, "n_top": 5, "n_random": 7}
USERS_ALONE = {"score_weight": 0, "item_weight": 0, "pseudo_weight": 0}


def projection(model) -> torch.Tensor:
    return model.backbone.item_embedding.parametrizations.weight.original


@pytest.mark.parametrize("side", SIDES)
def test_matching_equals_a_loop(learnt, batch, side) -> None:
    model = learnt(NAME, side=side, score_weight=0, pseudo_weight=0, user_weight=0.5, item_weight=2.0)
    model.requires_grad_(False)
    maps = [module.weight.T for module in model.auxiliary.values()] or [projection(model)]
    total = 0.0
    for table, rows, ids, matrix, weight in zip(
        model.embeddings(), model.teacher.values(), (batch.users, batch.items), maps, (0.5, 2.0)
    ):
        for entity in ids.tolist():
            gap = table[entity].double() @ matrix.double() - rows[entity].double()
            total += weight * math.sqrt(float(gap @ gap)) / len(ids)
    assert len(maps) == (1 if side == "asymmetric" else 2)
    assert model.distillation_loss(batch).item() == pytest.approx(total, rel=1e-4)


def test_candidates_are_a_training_item_items_of_the_list_and_others(learnt, batch) -> None:
    model = learnt(NAME, **SMALL)
    for user, row in zip(batch.users.tolist(), model.candidates(batch.users).tolist()):
        trained = set(model.history.padded(torch.tensor([user]))[0].tolist())
        listed = set(model.lists.targets[user].tolist())
        assert row[0] in trained - {0}
        assert set(row[1:6]) <= listed - {0}
        assert not set(row[6:]) & {0, *trained, *listed}


def test_a_temperature_means_the_same_for_a_teacher_with_scores_of_thirty_times_the_size(
    make_model, trained_pool, batch
) -> None:
    losses = []
    for scale in (1.0, 30.0):
        pool = trained_pool("BPR")
        table = pool.teachers[0].model.user_embedding.weight
        model = make_model(NAME, embedding_size=4, **SMALL)
        with torch.no_grad():
            model.backbone.user_embedding.weight.mul_(100)
            table.mul_(scale)
            model.learn_from(pool)
            losses.append(model.score_loss(batch).item())
            table.div_(scale)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_what_the_scores_are_matched_with_is_the_softmax_of_standardised_scores(
    learnt, batch, trained_pool, z_scores
) -> None:
    model, teacher = learnt(NAME, **SMALL, score_temperature=0.5), trained_pool("BPR").teachers[0]
    candidates = model.candidates(batch.users)
    model.candidates = lambda _: candidates
    total = 0.0
    for user, items, own in zip(batch.users, candidates, model.pair_scores(batch.users, candidates).detach().double()):
        zs = z_scores(model, int(user), teacher.scores(user[None])[0])[items[items > 0]]
        total -= float((2 * zs).softmax(0) @ (2 * own[items > 0]).log_softmax(0))
    assert model.score_loss(batch).item() == pytest.approx(total / len(batch.users), rel=1e-4)


@pytest.mark.parametrize("side", SIDES)
def test_users_alone_reach_the_optimum_of_pca(learnt, train_alone, side) -> None:
    model = learnt(NAME, side=side, distance="squared", **USERS_ALONE)
    before = {name: rows.clone() for name, rows in model.teacher.items()}
    rows = before["user"][1:].double()
    best = float(torch.linalg.svdvals(rows)[4:].square().sum()) / len(rows)
    assert train_alone(model, 400) == pytest.approx(best, rel=0.01)
    assert all(torch.equal(model.teacher[name], rows) for name, rows in before.items())


def test_the_asymmetric_student_folds_into_an_ordinary_one(learnt, train_alone) -> None:
    model = learnt(NAME, **SMALL)
    train_alone(model, 20)
    model.requires_grad_(False)
    matrix, teacher = projection(model).double(), model.teacher["item"].double()
    users = model.embeddings()[0].double()
    in_full = (users @ matrix) @ teacher.T
    bound = distances(users @ matrix, model.teacher["user"].double(), "norm")[:, None] * teacher.norm(dim=1)
    assert ((in_full - model.teacher["user"].double() @ teacher.T).abs() <= bound + 1e-9).all()
    served = model.served_state()
    model.finish_training()
    folded = model.scores(torch.arange(model.n_users)).double()
    assert torch.allclose(folded, in_full, atol=1e-5, rtol=1e-5)
    state = model.state_dict()
    assert {name: tuple(rows.shape) for name, rows in served.items()} == {
        "backbone.user_embedding.weight": (model.n_users, 4),
        "backbone.item_embedding.weight": (model.n_items, 4),
    }
    assert set(state) == set(served)
    assert all(torch.equal(state[name], rows) for name, rows in served.items())


def test_trained_through_the_pipeline_the_served_table_is_a_projection_of_the_teachers(settings) -> None:
    config = {**settings, **SMALL, "embedding_size": 4, "teachers": ["BPR"], "learning_rate": 0.02}
    model = run_hetcomp(NAME, "toy", config_dict=config, arguments=(), compare=False)["model"]
    assert isinstance(model.backbone.item_embedding, torch.nn.Embedding)
    table, teacher = model.embeddings()[1].detach()[1:], model.teacher["item"][1:]
    residual = table - teacher @ torch.linalg.lstsq(teacher, table).solution
    assert residual.norm() < 1e-4 * table.norm()


@pytest.mark.parametrize("side", SIDES)
def test_pseudo_users_train_the_item_side(learnt, train_alone, side) -> None:
    model = learnt(NAME, side=side, score_weight=0, user_weight=0, item_weight=0, pseudo_share=1)
    users = model.history.active_users
    before = model.embeddings()[1].detach().clone()
    losses = []
    for steps in (0, 150):
        train_alone(model, steps)
        model.generator.manual_seed(5)
        losses.append(model.pseudo_loss(users).item())
    assert losses[1] < 0.9 * losses[0]
    assert not torch.allclose(model.embeddings()[1], before, atol=0.1)
    assert len(model.pseudo_users(users)) == len(users)


def test_switched_off_it_leaves_the_item_table_alone(learnt) -> None:
    assert isinstance(learnt(NAME, distillation_weight=0).backbone.item_embedding, torch.nn.Embedding)


def test_a_setting_or_a_student_that_does_not_fit_is_refused(learnt) -> None:
    with pytest.raises(UserError, match="side: 'both' is none of asymmetric, symmetric"):
        learnt(NAME, side="both")
    with pytest.raises(UserError, match="unlike LightGCN's; choose MF, or symmetric"):
        learnt(NAME, student="LightGCN")


def test_training_puts_the_teachers_vectors_into_the_students(after_training, missed) -> None:
    plain, distilled = (missed(after_training(NAME, weight, side="symmetric", **SMALL)) for weight in (0.0, 3.0))
    assert distilled < 0.7 * plain


OFF = dict.fromkeys(("score_weight", "user_weight", "item_weight", "pseudo_weight"), 0.0)
TEACH_NOTHING = {
    "symmetric": ({**OFF, "side": "symmetric"}, "score_weight, user_weight, item_weight, pseudo_weight: 0 leave nothing"),
    "asymmetric": ({**OFF, "side": "asymmetric"}, "score_weight, user_weight, pseudo_weight: 0 leave nothing to distil"),
    "item side alone, which plays no role": ({**OFF, "item_weight": 1.0, "side": "asymmetric"}, "with side: asymmetric"),
}


@pytest.mark.parametrize("case", TEACH_NOTHING)
def test_weights_that_distil_nothing_are_refused(make_model, case) -> None:
    given, sentence = TEACH_NOTHING[case]
    with pytest.raises(UserError) as error:
        make_model(NAME, **given).check_trainable()
    assert sentence in error.value.sentence
    assert len(error.value.sentence) <= 400
    make_model(NAME, **given, distillation_weight=0.0).check_trainable()  # plain training
    for key in OFF.keys() - ({"item_weight"} if given["side"] == "asymmetric" else set()):
        make_model(NAME, **{**given, key: 0.1}).check_trainable()
