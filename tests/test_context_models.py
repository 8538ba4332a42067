"""Every context-aware model of RecBole, and ours, runs to AUC and LogLoss under our defaults, and can teach and learn."""

from __future__ import annotations

import inspect

import pytest
import recbole.model.context_aware_recommender as context
import torch
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.student import load_with_split
from recbole_hetcomp.teachers.context import LogitsOf

MODELS = sorted(name for name, cls in vars(context).items() if inspect.isclass(cls) and issubclass(cls, AbstractRecommender))
SMALL = {"mlp_hidden_size": [8], "attention_size": 4, "n_layers": 1, "cin_layer_size": [4, 4], "order_list": [8]}
SMALL |= {"t_cin": [4, 4], "dropout_prob": 0.0}


@pytest.mark.parametrize("model", [*MODELS, "DAGFM"])
def test_a_context_aware_model_runs_to_auc_and_logloss(clicks, model):
    settings = {**SMALL, **clicks, "epochs": 2}
    if model == "DSSM":
        settings["numerical_features"] = []  # its towers are of users and items alone
    result = run_hetcomp(model, "clicks", config_dict=settings, arguments=())
    assert set(result["test_result"]) == {"auc", "logloss"}
    assert 0 < result["test_result"]["auc"] < 1
    assert result["test_result"]["logloss"] > 0
    _, served, split = load_with_split(result["checkpoint"], arguments=())
    rows = split.parts[2][torch.arange(40)]
    assert torch.equal(served.predict(rows), result["model"].eval().predict(rows))


def test_all_that_fwfm_draws_is_trained_saved_and_moved(clicks_model):
    """RecBole's has a plain tensor for the weights of pairs of fields."""
    model, train = clicks_model("FwFM")
    weight = model.weight
    assert weight is dict(model.named_parameters())["weight"]
    assert "weight" in model.state_dict()
    model.calculate_loss(train[torch.arange(30)]).backward()
    assert weight.grad.any()
    assert model.to("meta").weight.is_meta


@pytest.mark.parametrize("model", [*MODELS, "DAGFM"])
def test_the_logits_of_a_model_are_those_of_its_predictions(clicks_model, model):
    made, train = clicks_model(model, **SMALL)
    rows = train[torch.arange(30)]
    found = LogitsOf(made)(rows)
    torch.testing.assert_close(torch.sigmoid(found), made.predict(rows).reshape(-1), rtol=0, atol=2e-6)
    assert found.requires_grad


@pytest.mark.parametrize("student", [name for name in MODELS if name != "KD_DAGFM"])
def test_a_model_learns_from_another(clicks, student):
    settings = {**SMALL, **clicks, "epochs": 6, "distil_epochs": 3, "teachers": ["LR"], "student": student}
    result = run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=(), compare=False)
    assert result["test_result"]["auc"] > 0.64  # of 150 rows chance is 0.5 +- 0.047
