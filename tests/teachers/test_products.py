"""Scores of a few items from vectors: those of whole rows, with no other item scored and no sequence asked twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recbole.model.general_recommender.multivae import MultiVAE
from torch import Tensor

from recbole_hetcomp.data.asked import FACTORS
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.general_recommender.cml import CML
from recbole_hetcomp.teachers import Teacher, Trajectory, products
from recbole_hetcomp.teachers.products import products_of
from recbole_hetcomp.teachers.ranking import full_scores
from recbole_hetcomp.trainer.building import build_model

KNOWN = ["BPR", "LightGCN", "CML", "ItemVAE", "MultiVAE"]


@pytest.fixture
def model_of(make_model):
    """`model_of(name)`: untrained, with noise: biases begin at 0, where a fault would not show."""

    def make(name: str) -> Any:
        model = make_model(name)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return model

    return make


def asked_for(model: Any, n: int = 6) -> tuple[Tensor, Tensor]:
    """(users [B], items [B, n] int32, the padding item among them)."""
    generator = torch.Generator().manual_seed(5)
    users = torch.randperm(model.n_users, generator=generator)
    return users, torch.randint(0, model.n_items, (len(users), n), generator=generator).int()


def whole_rows_at(model: Any, users: Tensor, items: Tensor) -> Tensor:
    with torch.no_grad():
        return full_scores(model, users).gather(1, items.long())


def never(*_: object) -> Tensor:
    pytest.fail("the whole catalogue, or a sequence, was scored")


@pytest.mark.parametrize("name", KNOWN)
def test_they_are_those_of_the_whole_rows(model_of, monkeypatch, name) -> None:
    model = model_of(name)
    users, items = asked_for(model)
    expected = whole_rows_at(model, users, items)
    assert expected.std() > 0.01
    made = products_of(model)
    assert made is not None
    for numbers in (1, 2**22):  # a user at a time, and all at once
        monkeypatch.setattr(products, "NUMBERS_AT_ONCE", numbers)
        with torch.no_grad():
            torch.testing.assert_close(made.scores(users, items), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KNOWN)
def test_a_teacher_scores_no_other_item(model_of, monkeypatch, name) -> None:
    model = model_of(name)
    users, items = asked_for(model)
    expected = whole_rows_at(model, users, items)
    teacher = Teacher(name, Trajectory.from_lists(torch.ones(model.n_users, 2), teacher=name), load=lambda: model)
    teacher.scores_of(users[:1], items[:1])  # graph models are asked once for what they keep
    monkeypatch.setattr(type(model), "full_sort_predict", never)
    found = teacher.scores_of(users, items)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_of_another_model_they_are_another_models(model_of) -> None:
    """What was made of a model that has been released is not used for the one that is loaded then."""
    models = [model_of("CML"), model_of("CML")]
    with torch.no_grad():
        models[1].user_embedding.weight.neg_()
    users, items = asked_for(models[0])
    loads = iter(models)
    teacher = Teacher("CML", Trajectory.from_lists(torch.ones(len(users), 2), teacher="CML"), load=lambda: next(loads))
    for model in models:
        expected = whole_rows_at(model, users, items)
        torch.testing.assert_close(teacher.scores_of(users, items), expected, rtol=1e-4, atol=1e-4)
        teacher.release()


class Further(CML):
    """Scores as CML does, each item the further from what it is, the larger its number."""

    def full_sort_predict(self, interaction: Any) -> Tensor:
        return (super().full_sort_predict(interaction).view(-1, self.n_items) - torch.arange(self.n_items)).view(-1)


class OfTwoDecoders(MultiVAE):
    """What the last layer gets is not all that the scores are made of."""

    last_hidden = None

    def forward(self, rating_matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, mean, log_variance = super().forward(rating_matrix)
        return logits + torch.arange(self.n_items), mean, log_variance


@pytest.mark.parametrize(("name", "derived"), [("CML", Further), ("MultiVAE", OfTwoDecoders)])
def test_a_model_that_derives_from_a_known_one_is_asked_itself(model_of, name, derived) -> None:
    model = model_of(name)
    model.__class__ = derived
    users, items = asked_for(model)
    expected = whole_rows_at(model, users, items)
    assert products_of(model) is None
    teacher = Teacher(name, Trajectory.from_lists(torch.ones(len(users), 2), teacher=name), load=lambda: model)
    torch.testing.assert_close(teacher.scores_of(users, items), expected)


def test_the_users_who_are_compared_are_spread_over_all(model_of, monkeypatch) -> None:
    """Numbers go by the order in the file, so that the first users are no sample."""
    model = model_of("BPR")
    predict = type(model).full_sort_predict

    def of_the_later_half(self: Any, interaction: Any) -> Tensor:
        scores = predict(self, interaction).view(-1, self.n_items)
        return scores + (interaction[self.USER_ID] > self.n_users // 2)[:, None]

    monkeypatch.setattr(type(model), "full_sort_predict", of_the_later_half)
    assert products_of(model) is None


@pytest.mark.parametrize("name", ["EASE", "NeuMF", "DMF"])
def test_models_that_are_no_products_have_none(model_of, name) -> None:
    assert products_of(model_of(name)) is None


@pytest.mark.parametrize("name", ["BPR", "CML", "MultiVAE"])
def test_a_general_teacher_says_the_same_at_all_points_of_a_users_sequence(make_config, model_of, name) -> None:
    config = make_config("SASRec", load_col={"inter": ["user_id", "item_id", "timestamp"]}, MAX_ITEM_LIST_LENGTH=10)
    rows, model = make_split(config).rows(3, 1), model_of(name)
    trajectory = Trajectory.from_lists(torch.ones(rows.n_users, 2), teacher=name)
    teacher = Teacher(name, trajectory, load=lambda: model, rows=rows)
    some = torch.arange(rows.n_users).flip(0)[:40]
    items = torch.randint(0, model.n_items, (40, 4), generator=torch.Generator().manual_seed(5))
    expected = whole_rows_at(model, rows.of_user[some], items)
    torch.testing.assert_close(teacher.scores_of(some, items), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_a_sequence_is_asked_once(make_config, monkeypatch, name) -> None:
    monkeypatch.setattr(products, "ROWS_AT_ONCE", 7)
    sizes = {"hidden_size": 8, "inner_size": 8, "embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 10}
    config = make_config(name, load_col={"inter": ["user_id", "item_id", "timestamp"]}, **sizes)
    split = make_split(config)
    torch.manual_seed(3)
    model = build_model(config, split.train_for(config)).eval()
    rows = split.rows(3, 1)
    teacher = Teacher(name, Trajectory.from_lists(torch.ones(rows.n_users, 2), teacher=name), load=lambda: model, rows=rows)
    generator = torch.Generator().manual_seed(5)
    some = torch.randperm(rows.n_users, generator=generator)[:20]
    items = torch.randint(0, model.n_items, (20, 4), generator=generator)
    expected = teacher.scores(some).gather(1, items)
    teacher.scores_of(some[:1], items[:1])
    for method in ("forward", "full_sort_predict", "predict"):
        monkeypatch.setattr(type(model), method, never)
    torch.testing.assert_close(teacher.scores_of(some, items), expected, rtol=1e-4, atol=1e-5)
