"""HistoryEncoder: a student whose users are a function of what they have interacted with, not a row of a table.

Source: the factored item similarities of Kabbur, Ning, Karypis, "FISM: Factored Item Similarity Models for Top-N
Recommender Systems", KDD 2013, https://doi.org/10.1145/2487575.2487589, with the mean for the sum and a layer on top.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, logsigmoid

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.data.history import History
from recbole_hetcomp.losses.lookup import Table
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.pairwise import PairwiseRecommender


class HistoryEncoder(PairwiseRecommender):
    """score(u, i) = <f(mean of x_j over the history of u), q_i>, with f the identity or one hidden layer.

    A user whom training has not seen is encoded like any other: `encode` takes histories.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        size, hidden = config["embedding_size"], config["hidden_size"]
        self.history = History.of(dataset)
        self.input_embedding = Table(self.n_items, size)
        self.item_embedding = Table(self.n_items, size)
        for table in (self.input_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=config["init_std"])
        layers = [nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, size)] if hidden else []
        self.layers = nn.Sequential(*layers)

    def encode(self, histories: Tensor) -> Tensor:
        """[B, d]: the vectors of users with `histories` [B, n] item ids, 0 = no item; that of an empty one is f(0)."""
        if not histories.size(1):
            histories = histories.new_zeros(len(histories), 1)
        return self.layers(embedding_bag(histories, self.input_embedding.weight, mode="mean", padding_idx=0))

    def user_vectors(self, users: Tensor) -> Tensor:
        """[B, d]: the vectors of `users` [B]."""
        return self.encode(self.history.padded(users))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """[B], [B] ids -> [B] scores."""
        return (self.user_vectors(user) * self.item_embedding(item)).sum(-1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """BPR's, each user encoded without the item that is to be found, which would otherwise find itself."""
        user, item, negative = (interaction[field] for field in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        histories = self.history.padded(user)
        vectors = self.encode(histories.masked_fill(histories == item[:, None], 0))
        better = (vectors * (self.item_embedding(item) - self.item_embedding(negative))).sum(-1)
        return -logsigmoid(better).mean()

    def vectors(self, users: Tensor) -> Vectors:
        """Users [B] and all items as vectors whose inner products are the scores."""
        return Vectors(self.user_vectors(users), self.item_embedding.weight)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: the scores of all items for the batch's users, user by user."""
        return torch.mm(self.user_vectors(interaction[self.USER_ID]), self.item_embedding.weight.T).view(-1)
