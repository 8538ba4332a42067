"""DL: a neural student, NeuMF's two towers with a first layer that factorises over users and items.

Source: He, Liao, Zhang, Nie, Hu, Chua, "Neural Collaborative Filtering", WWW 2017, https://arxiv.org/abs/1708.05031.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.functional import linear

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.losses.lookup import Table
from recbole_hetcomp.model.pairwise import PairwiseRecommender


class DL(PairwiseRecommender):
    """score(u, i) = <w, p_u * q_i> + MLP([a_u; b_i]), with embeddings of their own for the product and for the MLP.

    The MLP's first layer is W [a; b] = W_a a + W_b b: it costs one row a user and one an item rather than one a pair,
    which makes the scores of whole rows affordable. Trained by BPR when it learns alone.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        size, hidden = config["embedding_size"], list(config["mlp_hidden_size"])
        self.user_product, self.user_mlp = (Table(self.n_users, size) for _ in range(2))
        self.item_product, self.item_mlp = (Table(self.n_items, size) for _ in range(2))
        self.first = nn.Linear(2 * size, hidden[0])
        self.layers = nn.ModuleList(nn.Linear(width, following) for width, following in zip(hidden, [*hidden[1:], 1]))
        self.product_weight = nn.Parameter(torch.ones(size))
        for table in (self.user_product, self.user_mlp, self.item_product, self.item_mlp):
            nn.init.normal_(table.weight, std=config["init_std"])

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Ids of shapes that broadcast -> scores of the broadcast shape."""
        product = self.user_product(users) * self.product_weight * self.item_product(items)
        return product.sum(-1) + self._mlp(users, items)

    def _mlp(self, users: Tensor, items: Tensor) -> Tensor:
        size = self.user_mlp.embedding_dim
        of_user = linear(self.user_mlp(users), self.first.weight[:, :size], self.first.bias)
        hidden = of_user + linear(self.item_mlp(items), self.first.weight[:, size:])
        for layer in self.layers:
            hidden = layer(hidden.relu())
        return hidden.squeeze(-1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: the scores of all items for the batch's users, user by user."""
        users = interaction[self.USER_ID]
        product = (self.user_product(users) * self.product_weight) @ self.item_product.weight.T  # [B, I]
        every_item = torch.arange(self.n_items, device=users.device)
        return (product + self._mlp(users[:, None], every_item)).view(-1)
