"""NeuMF's scores of all items against its own `predict` of every pair."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import NeuMF

from recbole_hetcomp.compat import neumf_rows
from recbole_hetcomp.teachers.ranking import full_scores

NETWORKS = {
    "one layer": {"mlp_hidden_size": [7]},
    "three layers": {"mlp_hidden_size": [9, 5, 4], "dropout_prob": 0.3},
    "unequal tables": {"mf_embedding_size": 3, "mlp_embedding_size": 6, "mlp_hidden_size": [5]},
    "factors alone": {"mlp_train": False},
    "network alone": {"mf_train": False, "mlp_hidden_size": [6, 3]},
}


@pytest.fixture
def make(make_model):
    def made(**settings) -> NeuMF:
        model = make_model("NeuMF", **{"mf_embedding_size": 4, "mlp_embedding_size": 4, "dropout_prob": 0.0, **settings})
        torch.manual_seed(3)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        return model.eval()

    return made


def pair_by_pair(model: NeuMF, users: torch.Tensor) -> torch.Tensor:
    items = torch.arange(model.n_items)
    rows = [model.predict(Interaction({"user_id": user.expand(len(items)), "item_id": items})) for user in users]
    return torch.stack(rows)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pairs_at_once", [1, 200, 2**14])
def test_scores_and_gradients_are_those_of_every_pair(make, network, pairs_at_once, monkeypatch) -> None:
    monkeypatch.setattr(neumf_rows, "PAIRS_AT_ONCE", pairs_at_once)
    model, users = make(**NETWORKS[network]).double(), torch.tensor([3, 1, 60])
    found, expected = full_scores(model, users), pair_by_pair(model, users)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights, parameters = torch.randn_like(expected), list(model.parameters())
    gradients = [torch.autograd.grad((rows * weights).sum(), parameters, allow_unused=True) for rows in (found, expected)]
    assert any(gradient is not None and gradient.any() for gradient in gradients[0])
    for ours, theirs in zip(*gradients):
        if ours is None:
            assert theirs is None or not theirs.any()
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_recboles_trainer_is_spared_the_pairs(make, monkeypatch) -> None:
    model = make()
    monkeypatch.setattr(NeuMF, "predict", None)
    assert full_scores(model, torch.tensor([1, 2])).shape == (2, model.n_items)


def test_dropout_is_left_to_the_pairs(make) -> None:
    model = make(dropout_prob=0.5).train()
    with pytest.raises(NotImplementedError):
        model.full_sort_predict(Interaction({"user_id": torch.tensor([1])}))
    assert full_scores(model, torch.tensor([1, 2])).shape == (2, model.n_items)
    assert model.eval().full_sort_predict(Interaction({"user_id": torch.tensor([1])})).isfinite().all()
