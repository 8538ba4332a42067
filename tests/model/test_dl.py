"""DL: two towers, whose first layer costs a row a user and a row an item rather than one a pair."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_hetcomp.model.general_recommender.dl import DL


def build(make_config, split, **overrides) -> DL:
    config = make_config("DL", **overrides)
    init_seed(3, True)
    model = DL(config, split.train)
    with torch.no_grad():
        model.product_weight.copy_(torch.linspace(0.5, 1.5, len(model.product_weight)))
    return model


def triples(n: int = 40) -> Interaction:
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randint(1, high, (n,), generator=generator) for high in (60, 80, 80)]
    return Interaction(dict(zip(("user_id", "item_id", "neg_item_id"), draw)))


def plain(model: DL, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """NeuMF as one writes it down: both vectors side by side into an ordinary MLP."""
    hidden = model.first(torch.cat([model.user_mlp(users), model.item_mlp(items)], -1))
    for layer in model.layers:
        hidden = layer(torch.relu(hidden))
    product = (model.user_product(users) * model.item_product(items)) @ model.product_weight
    return product + hidden.squeeze(-1)


@pytest.mark.parametrize("hidden", [[16], [16, 8], [4, 4, 4]])
def test_first_layer_equals_one_over_the_concatenation(make_config, split, hidden):
    model = build(make_config, split, mlp_hidden_size=hidden, init_std=0.5).double()
    batch = triples()
    users, items = batch["user_id"], batch["item_id"]
    assert torch.allclose(model.forward(users, items), plain(model, users, items), rtol=1e-12, atol=1e-12)


def test_predict_agrees_with_full_sort_predict(make_config, split):
    model = build(make_config, split, init_std=0.5)
    users = torch.arange(model.n_users)
    rows = model.full_sort_predict(Interaction({"user_id": users})).view(model.n_users, model.n_items)
    batch = triples()
    assert torch.allclose(rows[batch["user_id"], batch["item_id"]], model.predict(batch), atol=1e-5)


def test_loss_equals_a_float64_loop_over_triples(make_config, split):
    model = build(make_config, split, init_std=0.5)
    batch = triples()
    found = model.calculate_loss(batch).item()
    double = model.double().requires_grad_(False)
    terms = [
        math.log1p(math.exp(float(plain(double, u, j) - plain(double, u, i))))
        for u, i, j in zip(batch["user_id"], batch["item_id"], batch["neg_item_id"])
    ]
    assert math.isclose(found, sum(terms) / len(terms), rel_tol=1e-5)


def test_gradients_equal_finite_differences(make_config, split):
    model = build(make_config, split, embedding_size=3, mlp_hidden_size=[4], init_std=0.5).double()
    batch = triples(6)
    model.calculate_loss(batch).backward()
    for name, weight in model.named_parameters():
        flat, gradient = weight.detach().view(-1), weight.grad.view(-1)
        assert gradient.abs().sum() > 0 or name == "layers.0.bias", name  # a constant cancels between two items
        for position in gradient.nonzero()[:4, 0].tolist():
            flat[position] += 1e-6
            up = model.calculate_loss(batch)
            flat[position] -= 2e-6
            down = model.calculate_loss(batch)
            flat[position] += 1e-6
            assert float(up - down) / 2e-6 == pytest.approx(gradient[position].item(), rel=1e-4, abs=1e-8), name


def test_scores_of_whole_rows_never_hold_a_pair_times_two_vectors(make_config, split):
    """The widest intermediate of a block of rows is [users, items, first hidden width], whatever the embedding size."""
    model = build(make_config, split, embedding_size=64, mlp_hidden_size=[4])
    sizes = []
    handles = [layer.register_forward_pre_hook(lambda _, given: sizes.append(given[0].numel())) for layer in model.layers]
    model.full_sort_predict(Interaction({"user_id": torch.arange(1, 11)}))
    for handle in handles:
        handle.remove()
    assert max(sizes) == 10 * model.n_items * 4
