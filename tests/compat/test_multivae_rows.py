"""MultiVAE by looked-up items against RecBole's own, which multiplies whole rows."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import MultiVAE

from recbole_hetcomp import compat
from recbole_hetcomp.compat import multivae_rows

METHODS = ("calculate_loss", "full_sort_predict", "predict")
USERS = torch.tensor([3, 1, 7, 60, 1])


@pytest.fixture
def stock():
    """RecBole's methods."""
    compat.uninstall()
    found = {name: vars(MultiVAE)[name] for name in METHODS}
    compat.install()
    assert not any(vars(MultiVAE)[name] is found[name] for name in METHODS)
    return found


@pytest.fixture
def model(make_model) -> MultiVAE:
    made = make_model("MultiVAE", mlp_hidden_size=[12, 6], latent_dimension=8, dropout_prob=0.0, anneal_cap=0.4)
    torch.manual_seed(3)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    made.reparameterize = lambda mean, log_variance: mean + log_variance  # without a draw
    return made.train()


def test_loss_and_gradients_are_recboles(model, stock) -> None:
    batch, found = Interaction({"user_id": USERS}), []
    for function in (MultiVAE.calculate_loss, stock["calculate_loss"]):
        model.update = 5
        model.zero_grad()
        loss = function(model, batch)
        loss.backward()
        found.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_scores_are_recboles(model, stock) -> None:
    model.eval()
    for name, batch in (
        ("full_sort_predict", Interaction({"user_id": USERS})),
        ("predict", Interaction({"user_id": USERS, "item_id": torch.tensor([1, 2, 40, 5, 79])})),
    ):
        ours, theirs = getattr(model, name)(batch), stock[name](model, batch)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_an_item_that_a_user_has_twice_counts_once(model) -> None:
    before = model.full_sort_predict(Interaction({"user_id": USERS}))
    model.history_item_id = torch.cat([model.history_item_id, model.history_item_id], 1)
    model.history_item_value = torch.cat([model.history_item_value, model.history_item_value], 1)
    del model.repeats_removed
    torch.testing.assert_close(model.full_sort_predict(Interaction({"user_id": USERS})), before)


def test_dropout_drops_a_users_items_at_its_rate(model) -> None:
    model.drop_out, first = 0.4, model.encoder[0]
    torch.nn.init.zeros_(first.weight)
    torch.nn.init.zeros_(first.bias)
    first.weight.data[0] = 1  # the first unit: the sum of the weights that are left
    model.encoder = torch.nn.Sequential(first)
    model.decoder, model.lat_dim = torch.nn.Identity(), 12
    users = torch.arange(1, 61).repeat(200)
    torch.manual_seed(0)
    dropped = multivae_rows.encoded(model, users)[0][:, 0]
    model.eval()
    whole = multivae_rows.encoded(model, users)[0][:, 0]
    assert (dropped != whole).float().mean() > 0.9
    torch.testing.assert_close(dropped.mean(), whole.mean(), rtol=0.02, atol=0)


def test_a_class_with_its_own_way_to_the_scores_keeps_it(model) -> None:
    class Doubled(MultiVAE):
        def forward(self, rating_matrix):
            logits, mean, log_variance = super().forward(rating_matrix)
            return 2 * logits, mean, log_variance

    model.eval()
    batch = Interaction({"user_id": USERS})
    once = model.full_sort_predict(batch)
    model.__class__ = Doubled
    torch.testing.assert_close(model.full_sort_predict(batch), 2 * once, rtol=1e-4, atol=1e-4)
