"""A student as plain arrays: all that is needed to serve it without this package, RecBole or torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.stored import interactions_of
from recbole_hetcomp.serving.factors import factors_of

DTYPES = ("float32", "float16", "int8")
STEPS = 127  # of int8 on either side of 0
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Exported:
    """Users and items as rows from 0, without RecBole's padding: row r has the id r + 1.

    Attributes:
        users, items: [U, d] and [I, d] float32, whose inner products are the scores
        user_tokens, item_tokens: of the rows
        seen_starts: [U + 1] int64, where each user's begin in `seen_items`
        seen_items: [N] int32, rows of the items that are not to be recommended again
    """

    users: np.ndarray
    items: np.ndarray
    user_tokens: list[str]
    item_tokens: list[str]
    seen_starts: np.ndarray
    seen_items: np.ndarray

    @classmethod
    def of(cls, model: AbstractRecommender, dataset: Dataset) -> Exported:
        """What `recommend` works with.

        Raises:
            UserError: the model's scores are no inner products.
        """
        vectors = factors_of(model, dataset, "export")
        history = History.of(interactions_of(dataset))
        tokens = [
            [str(token) for token in dataset.field2id_token[field][1:]] for field in (dataset.uid_field, dataset.iid_field)
        ]
        starts = np.concatenate([[0], history.counts[1:].cumsum(0).numpy()]).astype(np.int64)
        seen = (history.items - 1).numpy().astype(np.int32)
        return cls(vectors.users[1:].numpy(), vectors.items[1:].numpy(), tokens[0], tokens[1], starts, seen)

    def seen_by(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the users `rows` [B] have seen: places in `rows` [n] and the items' rows [n]."""
        counts = self.seen_starts[rows + 1] - self.seen_starts[rows]
        places = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(places)) - np.repeat(counts.cumsum() - counts, counts)
        return places, self.seen_items[self.seen_starts[rows][places] + within].astype(np.int64)

    def arrays(self, dtype: str) -> Arrays:
        """`users` and `items` in the dtype; of int8 also `users_scale` [U] and `items_scale` [I] float32, a factor a row.

        Raises:
            UserError: a number is beyond what float16 holds.
        """
        if dtype == "float32":
            return {"users": self.users, "items": self.items}
        if dtype == "float16":
            if max(np.abs(self.users).max(), np.abs(self.items).max()) > np.finfo(np.float16).max:
                raise UserError("dtype: a vector has a number beyond float16; choose --dtype=float32")
            return {"users": self.users.astype(np.float16), "items": self.items.astype(np.float16)}
        users, items = _balanced(self.users, self.items)
        (of_users, users_scale), (of_items, items_scale) = _in_steps(users), _in_steps(items)
        return {"users": of_users, "items": of_items, "users_scale": users_scale, "items_scale": items_scale}


def in_float32(arrays: Arrays, side: str) -> np.ndarray:
    """[n, d] float32: the vectors of one side as `Exported.arrays` has them."""
    rows = arrays[side].astype(np.float32)
    scale = arrays.get(f"{side}_scale")
    return rows if scale is None else rows * scale[:, None]


def _balanced(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same products, with each column as large among users as among items, so that no side loses small columns."""
    most = [np.abs(rows).max(0) for rows in (users, items)]
    factor = np.sqrt(np.where((most[0] > 0) & (most[1] > 0), most[1] / np.maximum(most[0], 1e-30), 1.0)).astype(np.float32)
    return users * factor, items / factor


def _in_steps(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, d] int8 and [n] float32, whose products by row are nearest to `rows`."""
    most = np.abs(rows).max(1)
    scale = np.where(most > 0, most / STEPS, 1.0).astype(np.float32)
    return np.rint(rows / scale[:, None]).clip(-STEPS, STEPS).astype(np.int8), scale
