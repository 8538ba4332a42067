"""A fixed sample of the items, as classes: what a model says of them to some users, and which of them these have had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.losses.streaming import squared_distance_vectors
from recbole_hetcomp.model.backbone import HasVectors, embeddings_of
from recbole_hetcomp.model.general_recommender.cml import CML, unit_ball


@dataclass(frozen=True)
class ItemSample:
    """Some of the items that users have in training.

    Attributes:
        items: [n] int64 on the CPU, ascending
        history: the training items among them, where the item of column c counts as c + 1
    """

    items: Tensor
    history: History

    @classmethod
    def drawn(cls, history: History, n: int, generator: torch.Generator, among: Tensor | None = None) -> ItemSample:
        """`n` items, or all where there are fewer, drawn uniformly without replacement from those that somebody has.

        Args:
            history: the training items
            n: how many
            generator: on the CPU
            among: [I] bool on the CPU, the items that may be drawn; None = all

        Raises:
            UserError: none may be.
        """
        items = history.items.unique()
        items = some_of(items if among is None else items[among[items]], n, generator).sort().values
        if not len(items):
            raise UserError("teachers: no item with a vector is in the training set, so none can be compared; add vectors")
        column = torch.searchsorted(items, history.items).clamp(max=len(items) - 1)
        sampled = items[column] == history.items
        users = history.pairs // history.n_items
        return cls(items, History(users[sampled], column[sampled] + 1, history.n_users, len(items) + 1))

    def positives(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """[B] int64: the column of one training item of each of `users` [B], on the CPU; -1 where none is in the sample."""
        return self.history.drawn(users, generator) - 1


class FeaturesAndScores(NamedTuple):
    """What a model makes of some users and items, with gradients, in float32 at least."""

    features: Tensor  # [B, d] the users' vectors
    scores: Tensor  # [B, n]
    points: Tensor | None  # [n, d] the items' vectors where the scores are distances, -c |f - v|^2


def features_and_scores(backbone: GeneralRecommender, users: Tensor, items: Tensor) -> FeaturesAndScores:
    """The vectors of `users` [B], their scores of `items` [n] and, where these are distances, the items' points.

    All vectors are those that the scores are made of: of CML and ML the points in the unit ball.

    Raises:
        UserError: the model has no vectors of users and items.
    """
    features, vectors = embeddings_of(backbone, users)
    in_ball = isinstance(backbone, CML)
    wide = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        features, vectors = features.to(wide), vectors.to(wide)
        if in_ball:
            features, vectors = unit_ball(features), unit_ball(vectors)
        of_users, of_items = features, vectors
        if isinstance(backbone, HasVectors):  # also where scores are distances
            of_users, of_items, _ = backbone.vectors(users)
        elif in_ball:
            of_users, of_items, _ = squared_distance_vectors(features, vectors)
        scores = of_users.to(wide) @ of_items.to(wide)[items].T
        return FeaturesAndScores(features, scores, vectors[items] if in_ball else None)
