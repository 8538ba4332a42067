"""DAGFM: its states against explicit sums in float64, the order of the fields, and what the paper says of its cost."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from recbole.model.context_aware_recommender import kd_dagfm

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.evaluation.operations import MultiplyAdds
from recbole_hetcomp.quick_start import run_hetcomp


@pytest.fixture
def dagfm(clicks_model):
    """`dagfm(**settings)`: a DAGFM in float64 with random parameters, and embedded fields [5, F, D]."""

    def make(**settings):
        model, _ = clicks_model("DAGFM", **settings)
        model.double()
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        return model, torch.randn(5, model.num_feature_field, model.embedding_size, generator=generator, dtype=torch.float64)

    return make


def test_one_layer_of_the_inner_form_is_the_sum_over_pairs(dagfm):
    model, fields = dagfm(interaction="inner", depth=1)
    first, second = model.states(fields)
    torch.testing.assert_close(first, model.mixing @ fields, rtol=0, atol=1e-12)
    p = model.edges["p"][0]
    pairs = torch.zeros_like(second)
    for field in range(fields.size(1)):
        for before in range(field + 1):  # itself among them: squares
            pairs[:, field] += p[before, field] * first[:, before] * first[:, field]
    torch.testing.assert_close(second, pairs, rtol=0, atol=1e-10)


def test_the_prediction_is_the_readout_of_all_states(clicks_model):
    model, train = clicks_model("DAGFM", interaction="inner", depth=2)
    rows = train[torch.arange(6)]
    states = model.states(model.concat_embed_input_fields(rows))
    numbers = torch.cat([state.sum(-1) for state in states], -1)
    logits = numbers @ model.readout.weight[0] + model.readout.bias
    torch.testing.assert_close(model.predict(rows), 1 / (1 + torch.exp(-logits)))
    labels = rows[model.LABEL]
    expected = -(labels * torch.log(model.predict(rows)) + (1 - labels) * torch.log(1 - model.predict(rows))).mean()
    torch.testing.assert_close(model.calculate_loss(rows), expected)


@pytest.mark.parametrize("form", ["inner", "outer", "kernel"])
def test_a_state_depends_on_no_later_field(dagfm, form):
    model, fields = dagfm(interaction=form)
    model.mixing.data = torch.eye(fields.size(1), dtype=torch.float64)
    fields.requires_grad_()
    states = model.states(fields)
    for field in range(fields.size(1)):
        (gradient,) = torch.autograd.grad(states[-1][:, field].sum(), fields, retain_graph=True)
        assert not gradient[:, field + 1 :].any()
        assert gradient[:, : field + 1].any(-1).all()


def test_each_product_of_three_fields_is_there_once(dagfm):
    model, fields = dagfm(interaction="inner", depth=2, embedding_size=1)
    model.mixing.data = torch.eye(fields.size(1), dtype=torch.float64)
    model.edges["p"].data.fill_(1.0)
    found = model.states(fields)[2].sum((1, 2))
    for row, values in zip(found.tolist(), fields[:, :, 0].tolist()):
        products = map(math.prod, itertools.combinations_with_replacement(values, 3))
        assert row == pytest.approx(math.fsum(products), rel=1e-12)


@pytest.mark.parametrize("form", ["inner", "outer"])
def test_the_kernel_contains_both_other_forms(dagfm, form):
    model, fields = dagfm(interaction=form)
    kernel, _ = dagfm(interaction="kernel")
    kernel.mixing.data = model.mixing.data
    p = model.edges["p"]
    kernel.edges["w"].data = torch.diag_embed(p) if form == "inner" else model.edges["q"][..., :, None] * p[..., None, :]
    for state, wanted in zip(kernel.states(fields), model.states(fields)):
        torch.testing.assert_close(state, wanted, rtol=1e-9, atol=1e-9)


def test_the_network_sees_the_sum_of_the_states(clicks_model):
    model, train = clicks_model("DAGFM", mlp_hidden_size=[5], depth=2)
    rows = train[torch.arange(4)]
    fields = model.concat_embed_input_fields(rows)
    states = model.states(fields)
    beside = model.mlp(sum(states).reshape(4, -1))[:, 0]
    explicit = model.readout(torch.cat([state.sum(-1) for state in states], -1))[:, 0]
    torch.testing.assert_close(model(rows), explicit + beside)


@pytest.mark.parametrize("form", ["inner", "outer"])
def test_it_costs_less_than_a_fifth_of_a_cross_network(clicks_model, form):
    """Counted at 39 columns of size 16 and as many layers: the paper says that at most 21.5 % are needed."""
    n_fields, size, depth = 39, 16, 3
    model, _ = clicks_model("DAGFM", interaction=form, depth=depth, embedding_size=size)
    model.mixing = torch.nn.Parameter(torch.eye(n_fields))
    model.acyclic = torch.ones(n_fields, n_fields).triu()
    for name in model.edges:
        model.edges[name] = torch.nn.Parameter(torch.randn(depth, n_fields, n_fields, size))
    cross = kd_dagfm.CrossNet({"depth": depth, "embedding_size": size, "feature_num": n_fields})
    fields, counts = torch.randn(256, n_fields, size), []
    for network in (model.states, cross):
        with torch.no_grad(), MultiplyAdds() as counter:
            network(fields)
        counts.append(counter.count)
    assert counts[0] > depth * n_fields**2 * size * 256
    assert counts[0] / counts[1] < 0.215


@pytest.mark.parametrize("form", ["inner", "outer", "kernel"])
def test_it_learns_the_clicks(clicks, form):
    result = run_hetcomp("DAGFM", "clicks", config_dict={**clicks, "epochs": 8, "interaction": form}, arguments=())
    assert result["test_result"]["auc"] > 0.65


def test_a_form_that_is_none_is_refused(clicks_config):
    with pytest.raises(UserError, match=r"^interaction: 'cross' is none of inner, outer, kernel"):
        check(clicks_config("DAGFM", interaction="cross"))
