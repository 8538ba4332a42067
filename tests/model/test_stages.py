"""What stages a model has: against what it computes step by step, with gradients, and none that a user is not part of."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from recbole_hetcomp.model.stages import Taps, prefixes, stages

USERS = torch.tensor([3, 9, 4])
ITEMS = torch.tensor([[1, 5], [2, 2], [7, 30]])


def test_taps_note_what_enters_at_the_last_call_and_let_go() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    first, second = torch.randn(2, 5, 3)
    with Taps(model, ["2", "0"]) as taps:
        model(first)
        model(second)
    model(first)
    hidden, entered = taps.entered
    assert entered is not first
    torch.testing.assert_close(entered, second)
    torch.testing.assert_close(hidden, model[0](second).relu())
    assert hidden.requires_grad
    torch.testing.assert_close(taps.left, [model(second), model[0](second)])
    assert not model[0]._forward_pre_hooks
    assert not model[0]._forward_hooks


def test_of_several_tensors_that_leave_a_module_the_first_is_noted() -> None:
    model = nn.Sequential(nn.GRU(3, 4, batch_first=True))
    with Taps(model, ["0"]) as taps:
        states, _ = model(torch.randn(2, 5, 3))
    assert taps.left[0] is states


def test_lightgcn_has_the_users_after_each_propagation_and_their_mean_with_the_tables_is_what_it_scores_with(
    make_model,
) -> None:
    model = make_model("LightGCN", n_layers=3)
    found = stages(model, USERS, ITEMS)
    assert len(found) == 3
    dense, vectors = model.norm_adj_matrix.to_dense(), model.get_ego_embeddings()
    for stage in found:
        vectors = dense @ vectors
        torch.testing.assert_close(stage, vectors[USERS])
    mean = torch.stack([model.user_embedding.weight[USERS], *found]).mean(0)
    torch.testing.assert_close(mean, model.forward()[0][USERS])
    for stage in found:  # of users by way of items, and by way of items and users
        gradients = torch.autograd.grad(stage.square().sum(), list(model.parameters()), retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.any() for gradient in gradients)


def test_a_history_encoder_has_the_mean_of_the_history_and_its_hidden_layer(make_model) -> None:
    model = make_model("HistoryEncoder", hidden_size=5)
    mean, hidden = stages(model, USERS, ITEMS)
    for row, user in enumerate(USERS):
        history = model.history.padded(user[None])[0]
        torch.testing.assert_close(mean[row], model.input_embedding.weight[history].mean(0))
    torch.testing.assert_close(hidden, linear(mean, model.layers[0].weight, model.layers[0].bias).relu())
    torch.testing.assert_close(model.layers[2](hidden), model.user_vectors(USERS))
    assert not stages(make_model("HistoryEncoder", hidden_size=0), USERS, ITEMS)


def test_dl_has_the_hidden_layers_of_pairs_and_the_last_gives_its_scores(make_model) -> None:
    model = make_model("DL", mlp_hidden_size=[6, 5, 4])
    found = stages(model, USERS, ITEMS)
    assert [tuple(stage.shape) for stage in found] == [(3, 2, 6), (3, 2, 5), (3, 2, 4)]
    product = (model.user_product(USERS)[:, None] * model.product_weight * model.item_product(ITEMS)).sum(-1)
    torch.testing.assert_close(product + model.layers[-1](found[-1])[..., 0], model(USERS[:, None], ITEMS))


@pytest.mark.parametrize("name", ["MF", "ML", "BPR", "NeuMF"])
def test_other_models_have_none(make_model, name) -> None:
    assert stages(make_model(name), USERS, ITEMS) == []


@pytest.mark.parametrize(("size", "lengths"), [(16, [4, 8, 12]), (8, [2, 4, 6]), (4, [1, 2, 3]), (2, [1]), (1, [])])
def test_prefixes_are_the_first_parts_of_a_vector(size, lengths) -> None:
    vectors = torch.randn(3, size)
    found = prefixes(vectors)
    assert [part.size(1) for part in found] == lengths
    assert all(torch.equal(part, vectors[:, : part.size(1)]) for part in found)
