"""NeuMF's scores of all items, whose every pair RecBole sends through the whole network: the same up to rounding."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.neumf import NeuMF
from torch import Tensor, nn

PAIRS_AT_ONCE = 2**14  # on the CPU: few enough for the hidden layer to stay in its cache
PAIRS_ELSEWHERE = 2**20  # on other devices, where few large pieces are faster


def scores_of_all_items(self: NeuMF, interaction: Interaction) -> Tensor:
    """[B * n_items]: NeuMF's `predict` of every item for the batch's users.

    The first layer of its network is linear in the user's and in the item's vector, so each part of it is computed once.

    Raises:
        NotImplementedError: dropout is at work, which changes the vectors pair by pair.
    """
    if self.training and self.dropout_prob:
        raise NotImplementedError
    users = interaction[self.USER_ID]
    factors = self.mf_embedding_size if self.mf_train else 0
    of_factors, of_hidden = self.predict_layer.weight[0].split([factors, self.predict_layer.in_features - factors])
    logits = self.predict_layer.bias
    if self.mf_train:
        logits = logits + (self.user_mf_embedding(users) * of_factors) @ self.item_mf_embedding.weight.T
    if self.mlp_train:
        logits = logits + _of_network(self, users, of_hidden)
    return self.sigmoid(logits).view(-1)


scores_of_all_items.pair_by_pair = True  # type: ignore[attr-defined]  # for a few items of a user, `predict` takes less


def _of_network(model: NeuMF, users: Tensor, weights: Tensor) -> Tensor:
    """[B, n_items]: the last hidden layer of every pair, times `weights`."""
    first, *others = (layer for layer in model.mlp_layers.mlp_layers if not isinstance(layer, nn.Dropout))
    left, right = first.weight.split(model.mlp_embedding_size, dim=1)
    of_users = model.user_mlp_embedding(users) @ left.T + first.bias  # [B, h]
    of_items = model.item_mlp_embedding.weight @ right.T  # [n_items, h]
    at_once = PAIRS_AT_ONCE if users.device.type == "cpu" else PAIRS_ELSEWHERE
    above, parts = nn.Sequential(*others), of_users.split(max(1, at_once // len(of_items)))
    return torch.cat([above(part[:, None] + of_items) @ weights for part in parts])
