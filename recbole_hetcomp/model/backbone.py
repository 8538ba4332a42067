"""What a student's model may offer beyond RecBole's interface, so that more can be done with it, or faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor, nn

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.losses.streaming import Vectors

# Where RecBole's graph models keep the embeddings of their last evaluation; stale as soon as a parameter changes.
EVALUATION_CACHES = ("restore_user_e", "restore_item_e")


@runtime_checkable
class HasVectors(Protocol):
    """A backbone whose scores are inner products, so that losses over the whole catalogue can be streamed."""

    def vectors(self, users: Tensor) -> Vectors:
        """Users [B] and all items as vectors whose inner products are the scores."""


@runtime_checkable
class HasHistories(HasVectors, Protocol):
    """Such a backbone that makes a user's vector from a history, so that users can be made up."""

    def encode(self, histories: Tensor) -> Tensor:
        """[B, d]: the vectors of users with histories [B, n], 0 = no item."""


def forget_evaluation_of(backbone: GeneralRecommender) -> None:
    """Drop what a model computed from parameters that may have changed since."""
    for name in EVALUATION_CACHES:
        if name in vars(backbone):
            setattr(backbone, name, None)


@contextmanager
def evaluating(backbone: GeneralRecommender) -> Iterator[None]:
    """Inside, a model computes as it is evaluated, without dropout; afterwards every module is in its own mode again, and
    nothing that was computed is kept.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    forget_evaluation_of(backbone)
    backbone.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        forget_evaluation_of(backbone)


def embeddings_of(backbone: GeneralRecommender, users: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(`users` [B], or all, as [B, d]; all items [I, d]) with gradients; of a graph model those its scores come from.

    Raises:
        UserError: the model has no vectors of both.
    """
    forget_evaluation_of(backbone)
    n_users, device = backbone.n_users, backbone.device
    if isinstance(backbone, HasHistories):
        made = backbone.vectors(torch.arange(n_users, device=device) if users is None else users)
        return made.users, made.items
    if set(EVALUATION_CACHES) <= set(vars(backbone)):  # RecBole's graph models
        backbone.full_sort_predict(Interaction({backbone.USER_ID: torch.ones(1, dtype=torch.int64, device=device)}))
        tables = [getattr(backbone, name) for name in EVALUATION_CACHES]
        forget_evaluation_of(backbone)  # what was kept hangs on this graph
    else:
        found = [getattr(backbone, name, None) for name in ("user_embedding", "item_embedding")]
        tables = [table.weight for table in found if isinstance(table, nn.Embedding)]
    if len(tables) < 2:
        name = type(backbone).__name__
        raise UserError(f"student: {name} has no vectors of users and items; choose MF, ML, HistoryEncoder or LightGCN")
    return tables[0] if users is None else tables[0][users], tables[1]
