"""Sequential models asked by row: as RecBole asks them by sequence, and their scores as inner products."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.data.asked import FACTORS, AskedByRow, asked_by
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.losses import Dense, Vectors, fine_ranking_loss, overall_ranking_loss
from recbole_hetcomp.trainer.building import build_model

SIZES = {"hidden_size": 8, "inner_size": 8, "embedding_size": 8}


@pytest.fixture
def model_of(make_config):
    """`model_of(name)`: (the model, untrained and in evaluation mode, its split)."""

    def make(name: str):
        config = make_config(name, load_col={"inter": ["user_id", "item_id", "timestamp"]}, MAX_ITEM_LIST_LENGTH=10, **SIZES)
        split = make_split(config)
        torch.manual_seed(3)
        model = build_model(config, split.train_for(config)).eval()
        with torch.no_grad():  # biases begin at 0, where a fault would not show
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model, split

    return make


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_vectors_give_the_models_own_scores(model_of, name) -> None:
    model, split = model_of(name)
    rows = split.rows(3, 1)
    asked = asked_by(model, rows)
    some = torch.arange(rows.n_users)
    with torch.no_grad():
        vectors = asked.vectors(some)
        scores = asked.full_sort_predict(Interaction({"user_id": some})).view(len(some), -1)
    assert vectors.items.shape[0] == split.whole.item_num == scores.shape[1]
    torch.testing.assert_close(vectors.users @ vectors.items.T, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_rows_at_the_end_score_as_the_validation_instances(model_of, name) -> None:
    model, split = model_of(name)
    valid = split.instances[1].inter_feat
    with torch.no_grad():
        by_row = AskedByRow(model, split.rows(1, 1)).full_sort_predict(Interaction({"user_id": valid["user_id"]}))
        by_instance = model.full_sort_predict(valid)
    assert torch.equal(by_row, by_instance)


@pytest.mark.parametrize("loss", [overall_ranking_loss, fine_ranking_loss])
@pytest.mark.parametrize("student", sorted(FACTORS))
def test_a_students_losses_over_the_catalogue_are_streamed_and_equal_the_dense_ones(make_config, student, loss) -> None:
    """In blocks, with no score of an item that is in no list: values and gradients."""
    given = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 10, **SIZES}
    config = make_config("HetCompStudent", student=student, teachers=["BPR"], **given)
    split = make_split(config)
    model = build_model(config, split.train_for(config)).eval()
    rows = model.history.active_users[:20]
    torch.manual_seed(3)
    listed = torch.stack([torch.randperm(split.whole.item_num - 1)[:8] + 1 for _ in rows])
    targets, observed, history = listed[:, :5], listed[:, 5:], model.history.padded(rows)
    parameters, found = list(model.backbone.parameters()), []
    streamed = model.catalogue(rows)
    assert isinstance(streamed, Vectors)
    for scores in (streamed, Dense(model.scores(rows))):
        value = loss(scores, targets, observed, history).mean()
        found.append([value, *torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)])
    assert found[0][0] > 0
    for ours, dense in zip(*found):
        torch.testing.assert_close(ours, dense, rtol=1e-5, atol=1e-6)


def test_general_models_are_asked_as_ever(make_config) -> None:
    split = make_split(make_config("BPR"))
    model = build_model(make_config("BPR"), split.train)
    assert asked_by(model, split.history) is model
