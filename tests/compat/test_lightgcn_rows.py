"""LightGCN with its matrix in rows against RecBole's own."""

from __future__ import annotations

import copy

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import LightGCN

from recbole_hetcomp import compat
from recbole_hetcomp.compat.lightgcn_rows import with_rows


@pytest.fixture
def models(make_model, monkeypatch) -> tuple[LightGCN, LightGCN]:
    """(ours, RecBole's) with the same parameters."""
    ours = make_model("LightGCN", embedding_size=5, n_layers=3)
    compat.uninstall()
    monkeypatch.setenv(compat.SWITCH, "lightgcn_rows")
    compat.install()
    stock = make_model("LightGCN", embedding_size=5, n_layers=3)
    compat.uninstall()
    monkeypatch.delenv(compat.SWITCH)
    compat.install()
    stock.load_state_dict(ours.state_dict())
    return ours, stock


def batch(model: LightGCN) -> Interaction:
    draw = torch.Generator().manual_seed(2)
    users = torch.randint(1, model.n_users, (40,), generator=draw)
    items = torch.randint(1, model.n_items, (2, 40), generator=draw)
    return Interaction({"user_id": users, "item_id": items[0], "neg_item_id": items[1]})


def test_the_rows_are_recboles_matrix_and_symmetric(models) -> None:
    ours, stock = (model.norm_adj_matrix for model in models)
    assert ours.layout == stock.layout == torch.sparse_coo
    assert not hasattr(stock, "rows")
    dense = ours.rows.matrix.to_dense()
    assert torch.equal(dense, stock.to_dense())
    assert torch.equal(dense, dense.T)


def test_vectors_loss_and_gradients_are_recboles(models) -> None:
    found, expected = (model.double() for model in models)
    found.norm_adj_matrix = with_rows(found.norm_adj_matrix.double())
    expected.norm_adj_matrix = expected.norm_adj_matrix.double()
    for ours, theirs in zip(found.forward(), expected.forward()):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    losses = [model.calculate_loss(batch(model)) for model in models]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(found.parameters(), expected.parameters()):
        assert theirs.grad.abs().sum() > 0
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_it_can_be_copied_and_trained_in_half_precision(models) -> None:
    model = copy.deepcopy(models[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.calculate_loss(batch(model))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_model_made_with_rows_multiplies_by_them(models, monkeypatch) -> None:
    products = []
    monkeypatch.setattr(torch.sparse, "mm", lambda matrix, vectors: products.append(matrix.layout) or vectors)
    for model in (*models, copy.deepcopy(models[0])):
        model.forward()
    assert products == [torch.sparse_csr] * 3 + [torch.sparse_coo] * 3 + [torch.sparse_csr] * 3


class Halved(LightGCN):
    def get_norm_adj_mat(self):
        matrix = super().get_norm_adj_mat()
        matrix._values().mul_(0.5)
        return matrix


def test_a_subclass_with_a_matrix_of_its_own_multiplies_by_that(models, make_config, split) -> None:
    config = make_config("LightGCN", embedding_size=5, n_layers=1)
    model, stock = Halved(config, split.loaders(config).train._dataset), models[1]
    model.load_state_dict(stock.state_dict())
    layers = [model.get_ego_embeddings()]
    layers.append(0.5 * stock.norm_adj_matrix.to_dense() @ layers[0])
    torch.testing.assert_close(torch.cat(model.forward()), torch.stack(layers).mean(0))


def test_switching_the_row_off_leaves_a_model_that_was_made_with_it_usable(models) -> None:
    compat.uninstall()
    found, expected = (model.forward() for model in models)
    compat.install()
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs)
