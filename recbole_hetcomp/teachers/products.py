"""Scores of a few items of each user from the vectors whose inner products they are, so that no other item is scored.

Methods that rank by the student ask the teachers in every epoch for some tens of items a user, of thousands in the
catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from recbole.model.general_recommender.multivae import MultiVAE
from torch import Tensor

from recbole_hetcomp.data.asked import AskedByRow
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.teachers.ranking import full_scores

ROWS_AT_ONCE = 4096  # sequences of which a model makes vectors at once
NUMBERS_AT_ONCE = 2**22  # of the items' vectors that are looked up (16 MiB)
PROBED = 16  # users, spread over all ids, whose products are compared with the model's own scores


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
    bias: Tensor | None = None

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] float of `items` [B, n] integer ids for `users` [B]; the items' vectors are looked up in blocks."""
        device = self.of_items.device
        vectors, items = self.of_users(users.to(device)), items.to(device).long()
        size = max(1, NUMBERS_AT_ONCE // max(1, items.size(1) * self.of_items.size(1)))
        blocks = zip(vectors.split(size), items.split(size))
        products = torch.cat([Vectors(of_block, self.of_items).listed(listed).scores for of_block, listed in blocks])
        return products if self.bias is None else products + self.bias[items]

    def are_scores_of(self, asked: Any) -> bool:
        """Whether some users' scores of all items, as the model gives them, are these products."""
        some = torch.linspace(1, asked.n_users - 1, PROBED).long().unique().to(self.of_items.device)
        with torch.autocast(some.device.type, enabled=False):
            products = self.of_users(some) @ self.of_items.T
            own = full_scores(asked, some)
        products = products if self.bias is None else products + self.bias
        return torch.allclose(products.to(own.dtype), own, rtol=1e-3, atol=1e-4)


def products_of(asked: Any) -> Products | None:
    """The products that a model's scores are; None where it is not known to have any.

    A class that derives from a known one may score otherwise, and is not known.

    Args:
        asked: the model, in evaluation mode, by row where it is of sequences; it stays as it is
    """
    if isinstance(asked, AskedByRow):
        return _of_tables(vectors_of_rows(asked))
    if type(asked) is MultiVAE and hasattr(asked, "last_hidden"):  # which compat/multivae_rows.py adds
        last = asked.decoder[-1]
        found = Products(asked.last_hidden, last.weight, last.bias)
    elif type(asked).__module__.startswith("recbole_hetcomp.") and hasattr(asked, "item_vectors"):  # CML and ItemVAE
        found = Products(asked.user_vectors, asked.item_vectors())
    else:
        return _of_tables(tables_of(asked))
    return found if found.are_scores_of(asked) else None


def vectors_of_rows(asked: AskedByRow) -> tuple[Tensor, Tensor] | None:
    """(rows [R, d], items [I, d]): what a sequential model makes of each row's sequence, and its items.

    None where there are none, or where their inner products are not the scores that the model gives.
    """
    rows = torch.arange(asked.n_users, device=asked.device)
    first = asked.vectors(rows[:1])

    def of_rows(some: Tensor) -> Tensor:
        found = asked.vectors(some)
        assert found is not None  # as the first row has shown
        return found.users

    if first is None or not Products(of_rows, first.items).are_scores_of(asked):
        return None
    return torch.cat([of_rows(block) for block in rows.split(ROWS_AT_ONCE)]), first.items


def tables_of(model: Any) -> tuple[Tensor, Tensor] | None:
    """(users [U, d], items [I, d]): what graph models keep of an evaluation, or the embedding tables.

    None where there are none, or where their inner products are not the scores that the model gives.
    """
    full_scores(model, torch.arange(1, 2))  # of which graph models keep what they have computed
    pair = ("restore_user_e", "restore_item_e") if "restore_user_e" in dir(model) else ("user_embedding", "item_embedding")
    tables = (getattr(model, name, None) for name in pair)
    users, items = (table.weight if isinstance(table, torch.nn.Embedding) else table for table in tables)
    if not (isinstance(users, Tensor) and isinstance(items, Tensor) and users.shape[1:] == items.shape[1:]):
        return None
    return (users, items) if Products(users.__getitem__, items).are_scores_of(model) else None


def _of_tables(own: tuple[Tensor, Tensor] | None) -> Products | None:
    return None if own is None else Products(own[0].__getitem__, own[1])
