"""CML: collaborative metric learning. Users sit close to the items they like, in the Euclidean unit ball.

Source: Hsieh, Yang, Cui, Lin, Belongie, Estrin, "Collaborative Metric Learning", WWW 2017,
https://doi.org/10.1145/3038912.3052639, Sections 3.1 (hinge) and 3.2 (rank weight).

The paper's covariance term is left out: at no weight tried did it raise Recall@50 on MovieLens-100K.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.losses.lookup import Table, look_up
from recbole_hetcomp.losses.streaming import squared_distance_vectors


def unit_ball(points: Tensor) -> Tensor:
    """[..., d] -> [..., d]: points outside the unit ball moved to its surface, the others unchanged."""
    return points / points.norm(dim=-1, keepdim=True).clamp(min=1)


def looking_up(table: Table, n_rows: int) -> Callable[[Tensor], Tensor]:
    """The function from ids [...] to points of the unit ball [..., d], for `n_rows` ids in all.

    The whole table is moved into the ball where it is smaller than what is looked up.
    """
    if n_rows <= table.num_embeddings:
        return lambda ids: unit_ball(table(ids))
    points = unit_ball(table.weight)
    return lambda ids: look_up(points, ids)


def squared_distances(users: Tensor, items: Tensor) -> Tensor:
    """[B, d], [I, d] -> [B, I]: squared Euclidean distances by |u|^2 - 2uv + |v|^2, without a [B, I, d] tensor."""
    squares = users.square().sum(1, keepdim=True) + items.square().sum(1)
    return torch.addmm(squares, users, items.T, alpha=-2)


@torch.no_grad()
def rank_weight(positive: Tensor, negatives: Tensor, n_items: int, margin: float) -> Tensor:
    """How much a positive item matters: log(1 + its estimated rank), 0 where no negative is within the margin.

    Source: Section 3.2; the estimate is the WARP loss' in its parallel form.

    Args:
        positive: [B] squared distances user to positive item
        negatives: [n, B] squared distances to n sampled negatives
        n_items: number of items that were sampled from

    Returns:
        [B], natural log; rank = n_items * (share of the negatives within the margin)
    """
    return (n_items * (positive + margin > negatives).float().mean(0)).log1p()


class CML(GeneralRecommender):
    """Collaborative metric learning: score = -|u - v|^2 with |u|, |v| <= 1.

    The ball is part of the forward pass, u = x / max(1, |x|) for a free parameter x. So whatever an optimiser, its
    moments or a checkpoint do to x, every distance is one between points of the ball. Moving x itself back after
    the step would need a hook into the optimiser, and `nn.Embedding(max_norm=1)` moves only the rows of the next batch.

    `train_neg_sample_args: {sample_num: n}` is the number of negatives per positive item from which the closest is
    taken: RecBole lays the batch out as n copies of the positives, one behind the other.
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.margin = config["margin"]
        self.n_negatives = config["train_neg_sample_args"]["sample_num"]
        self.user_embedding = Table(self.n_users, config["embedding_size"])
        self.item_embedding = Table(self.n_items, config["embedding_size"])
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=config["embedding_size"] ** -0.5)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """[...], [...] ids of any shapes that broadcast -> squared distances."""
        return (unit_ball(self.user_embedding(user)) - unit_ball(self.item_embedding(item))).square().sum(-1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Hinge against the closest of n negatives, weighted by rank; mean over the positives. Only that one learns."""
        negatives = interaction[self.NEG_ITEM_ID].view(self.n_negatives, -1)  # [n, B]
        user = interaction[self.USER_ID][: negatives.shape[1]]  # [B]; the other n - 1 copies repeat it
        item = interaction[self.ITEM_ID][: negatives.shape[1]]
        users = looking_up(self.user_embedding, len(user))(user)
        items = looking_up(self.item_embedding, negatives.numel())
        with torch.no_grad():
            candidates = (users - items(negatives)).square().sum(-1)  # [n, B]
        closest = negatives.gather(0, candidates.argmin(0, keepdim=True))[0]
        positive, negative = ((users - items(ids)).square().sum(-1) for ids in (item, closest))
        weight = rank_weight(positive, candidates, self.n_items - 1, self.margin)
        return (weight * (self.margin + positive - negative).relu()).mean()

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: -|u - v|^2 of a batch of pairs."""
        return -self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])

    def user_vectors(self, users: Tensor) -> Tensor:
        """[B] -> [B, d + 2], whose inner products with `item_vectors` are the scores."""
        return squared_distance_vectors(unit_ball(self.user_embedding(users)), self.item_embedding.weight[:0]).users

    def item_vectors(self) -> Tensor:
        """[n_items, d + 2]."""
        return squared_distance_vectors(self.user_embedding.weight[:0], unit_ball(self.item_embedding.weight)).items

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: -|u - v|^2 of the batch's users and all items, user by user."""
        users = unit_ball(self.user_embedding(interaction[self.USER_ID]))
        return -squared_distances(users, unit_ball(self.item_embedding.weight)).view(-1)
