"""MultiVAE without the zeros of its input: a user's items are looked up, where RecBole multiplies the whole catalogue.

The same model and loss, up to rounding. Dropout draws a number for each item of a user, where RecBole draws one for each
item of the catalogue, so a training differs from RecBole's as one with another seed does.
"""

from __future__ import annotations

from collections.abc import Callable

from recbole.data.interaction import Interaction
from recbole.model.general_recommender.multivae import MultiVAE
from torch import Tensor
from torch.nn import functional as F

from recbole_hetcomp.compat.replacing import Undo, replaced


def encoded(self: MultiVAE, users: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the latent vectors of users [B] lie, as RecBole's `forward` has it of their rows, and these rows in short form.

    Returns:
        [B, z] mean, [B, z] log variance, [B, H] items (0 beyond a user's last), [B, H] their ratings
    """
    items, ratings = _rows(self, users)
    weights = F.dropout(F.normalize(ratings), self.drop_out, training=self.training)
    first, *others = self.encoder
    hidden = F.embedding_bag(items, first.weight.T.contiguous(), per_sample_weights=weights, mode="sum") + first.bias
    for layer in others:
        hidden = layer(hidden)
    mean, log_variance = hidden.split([self.lat_dim // 2, self.lat_dim - self.lat_dim // 2], dim=1)
    return mean, log_variance, items, ratings


def last_hidden(self: MultiVAE, users: Tensor) -> Tensor:
    """[B, h] what the last layer makes the logits of, of users [B]; `teachers/products.py` asks for it."""
    return self.decoder[:-1](_latent(self, users))


def logits_of(self: MultiVAE, users: Tensor) -> Tensor:
    """[B, n_items] of users [B]."""
    return self.decoder(_latent(self, users))


def _latent(self: MultiVAE, users: Tensor) -> Tensor:
    mean, log_variance, _, _ = encoded(self, users)
    return self.reparameterize(mean, log_variance)


def _rows(self: MultiVAE, users: Tensor) -> tuple[Tensor, Tensor]:
    """[B, H] items and [B, H] ratings, an item that is repeated once; on a CPU no longer than the longest row."""
    if "repeats_removed" not in vars(self):
        items, order = self.history_item_id.sort(dim=1, stable=True)
        ratings = self.history_item_value.gather(1, order)
        ratings[:, 1:][items[:, 1:] == items[:, :-1]] = 0
        kept = (ratings != 0).long().argsort(dim=1, descending=True, stable=True)
        self.history_item_id, self.history_item_value = items.gather(1, kept), ratings.gather(1, kept)
        self.repeats_removed = True
    items, ratings = self.history_item_id[users], self.history_item_value[users]
    if users.device.type == "cpu":  # elsewhere to ask for the length would be to wait for it
        longest = max(1, int((ratings != 0).sum(1).max()))
        items, ratings = items[:, :longest], ratings[:, :longest]
    return items, ratings


def calculate_loss(self: MultiVAE, interaction: Interaction) -> Tensor:
    """RecBole's loss: the cross-entropy of a user's items and the annealed divergence of the latent vector."""
    self.update += 1
    steps = self.total_anneal_steps
    anneal = min(self.anneal_cap, self.update / steps) if steps > 0 else self.anneal_cap
    mean, log_variance, items, ratings = encoded(self, interaction[self.USER_ID])
    logits = self.decoder(self.reparameterize(mean, log_variance))
    divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1).mean()
    of_items = (logits.log_softmax(1).gather(1, items) * ratings).sum(1)
    return anneal * divergence - of_items.mean()


def full_sort_predict(self: MultiVAE, interaction: Interaction) -> Tensor:
    """[B * n_items]: the logits of all items for the batch's users, user by user."""
    return logits_of(self, interaction[self.USER_ID]).view(-1)


def predict(self: MultiVAE, interaction: Interaction) -> Tensor:
    """[B]: the logits of a batch of pairs."""
    users, places = interaction[self.USER_ID].unique(return_inverse=True)
    return logits_of(self, users)[places, interaction[self.ITEM_ID]]


def unless_redefined(stock: Callable[..., Tensor], ours: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`ours` for MultiVAE; `stock` for a class that derives from it and has its own way from a user's row to the scores."""

    def method(self: MultiVAE, interaction: Interaction) -> Tensor:
        same = all(getattr(type(self), name) is getattr(MultiVAE, name) for name in ("forward", "get_rating_matrix"))
        return (ours if same else stock)(self, interaction)

    return method


def leave_out_the_zeros() -> Undo:
    """The repair."""
    ways = {"calculate_loss": calculate_loss, "full_sort_predict": full_sort_predict, "predict": predict}
    methods = {name: unless_redefined(vars(MultiVAE)[name], ours) for name, ours in ways.items()}
    return replaced(MultiVAE, last_hidden=last_hidden, **methods)
