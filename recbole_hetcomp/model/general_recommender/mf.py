"""MF: matrix factorisation, the smallest student of HetComp.

Source: Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from Implicit Feedback",
UAI 2009, https://arxiv.org/abs/1205.2618; initialisation as in the code of Kang et al., HetComp, WWW 2023.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.losses.lookup import Table
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.pairwise import PairwiseRecommender


class MF(PairwiseRecommender):
    """score(u, i) = <p_u, q_i>, no bias; trained by BPR when it learns alone.

    RecBole's `BPR` differs in its initialisation alone, N(0, 2 / (n + d)) by Xavier against N(0, 0.01^2) here: a student
    whose scores begin near 0 begins with the uniform softmax.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.user_embedding = Table(self.n_users, config["embedding_size"])
        self.item_embedding = Table(self.n_items, config["embedding_size"])
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=config["init_std"])

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """[B], [B] ids -> [B] scores."""
        return (self.user_embedding(user) * self.item_embedding(item)).sum(-1)

    def vectors(self, users: Tensor) -> Vectors:
        """Users [B] and all items as vectors whose inner products are the scores."""
        return Vectors(self.user_embedding(users), self.item_embedding.weight)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: the scores of all items for the batch's users, user by user."""
        return torch.mm(self.user_embedding(interaction[self.USER_ID]), self.item_embedding.weight.T).view(-1)
