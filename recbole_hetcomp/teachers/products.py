"""Scores of a few items of each user from the vectors whose inner products they are, so that no other item is scored.

Methods that rank by the student ask the teachers in every epoch for some tens of items a user, of thousands in the
catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import torch
from recbole.model.general_recommender.multivae import MultiVAE
from torch import Tensor

from recbole_hetcomp.data.asked import AskedByRow
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.teachers.ranking import full_scores

ROWS_AT_ONCE = 4096  # users, or sequences, of which a model makes vectors at once
NUMBERS_AT_ONCE = 2**22  # of the items' vectors that are looked up (16 MiB)


@dataclass(frozen=True)
class Products:
    """score(u, i) = <of_users(u), of_items[i]> + bias[i].

    Attributes:
        of_users: users [B] -> their vectors [B, d]
        of_items: [I, d]
        bias: [I]; None = 0
    """

    of_users: Callable[[Tensor], Tensor]
    of_items: Tensor
    bias: Optional[Tensor] = None

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] float of `items` [B, n] integer ids for `users` [B]; the items' vectors are looked up in blocks."""
        device, numbers = self.of_items.device, max(1, items.size(1) * self.of_items.size(1))
        items = items.to(device).long()
        blocks = zip(*(part.split(max(1, NUMBERS_AT_ONCE // numbers)) for part in (self.of_users(users.to(device)), items)))
        products = torch.cat([Vectors(vectors, self.of_items).listed(block).scores for vectors, block in blocks])
        return products if self.bias is None else products + self.bias[items]

    def are_scores_of(self, asked: Any) -> bool:
        """Whether the first users' scores of all items, as the model gives them, are these products."""
        probe = torch.arange(1, min(9, asked.n_users), device=self.of_items.device)
        products = self.of_users(probe) @ self.of_items.T
        products = products if self.bias is None else products + self.bias
        return torch.allclose(products, full_scores(asked, probe), rtol=1e-3, atol=1e-4)


def products_of(asked: Any) -> Products | None:
    """The products that a model's scores are; None where it is not known to have any.

    Args:
        asked: the model, in evaluation mode, by row where it is of sequences; it stays as it is
    """
    if isinstance(asked, MultiVAE) and hasattr(asked, "last_hidden"):  # of compat/multivae_rows.py: too long to be kept
        last = asked.decoder[-1]
        found = Products(asked.last_hidden, last.weight, last.bias)
        return found if found.are_scores_of(asked) else None
    if isinstance(asked, AskedByRow):
        own = vectors_of_rows(asked)
    elif hasattr(asked, "score_vectors"):
        own = _if_scores(asked, _of_everybody(asked, asked.score_vectors))
    else:
        own = tables_of(asked)
    return None if own is None else Products(own[0].__getitem__, own[1])


def vectors_of_rows(asked: AskedByRow) -> tuple[Tensor, Tensor] | None:
    """(rows [R, d], items [I, d]): what a sequential model makes of each row's sequence, and its items.

    None where there are none, or where their inner products are not the scores that the model gives.
    """
    return _if_scores(asked, _of_everybody(asked, asked.vectors))


def tables_of(model: Any) -> tuple[Tensor, Tensor] | None:
    """(users [U, d], items [I, d]): what graph models keep of an evaluation, or the embedding tables; None as above."""
    full_scores(model, torch.arange(1, 2))  # of which graph models keep what they have computed
    pair = ("restore_user_e", "restore_item_e") if "restore_user_e" in dir(model) else ("user_embedding", "item_embedding")
    tables = (getattr(model, name, None) for name in pair)
    users, items = (table.weight if isinstance(table, torch.nn.Embedding) else table for table in tables)
    if not (isinstance(users, Tensor) and isinstance(items, Tensor) and users.shape[1:] == items.shape[1:]):
        return None
    return _if_scores(model, (users, items))


def _of_everybody(asked: Any, vectors: Callable[[Tensor], Vectors | None]) -> tuple[Tensor, Tensor] | None:
    """The `vectors` of all users, or rows, and of all items; None where it gives none."""
    blocks = torch.arange(asked.n_users, device=asked.device).split(ROWS_AT_ONCE)
    made = [found for found in map(vectors, blocks) if found is not None]
    return (torch.cat([found.users for found in made]), made[0].items) if made else None


def _if_scores(asked: Any, own: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    return own if own is not None and Products(own[0].__getitem__, own[1]).are_scores_of(asked) else None
