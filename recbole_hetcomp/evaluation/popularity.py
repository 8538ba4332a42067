"""Whether a model recommends what everybody knows: popularity, Gini index, coverage and tail share of its lists."""

from __future__ import annotations

import torch
from torch import Tensor

DEPTH = 10  # of the lists that are looked at
HEAD = 0.2  # the most popular items, as a share of the catalogue; all others are the tail


def popularity_of(lists: Tensor, counts: Tensor) -> dict[str, float]:
    """What the lists of all users come to.

    Args:
        lists: [U, k] integer item ids, 0 = no item
        counts: [I] int64, interactions of each item in the training part, that of the padding first

    Returns:
        `mean_popularity`: training interactions of a listed item, a mean over all places; `gini`: of how often each item of
        the catalogue is listed, 0 = all alike, 1 = one alone; `coverage`: the share of the catalogue that is listed at all;
        `tail`: the share of places that items outside of the HEAD have. All 0 where nothing is listed.
    """
    listed = torch.bincount(lists.flatten().long(), minlength=len(counts))[1:]
    return shares(listed, counts[1:])


def shares(listed: Tensor, counts: Tensor) -> dict[str, float]:
    """`popularity_of` from how often each item is `listed` [I]; `counts` [I] its training interactions; both int64."""
    places = int(listed.sum())
    if not places:
        return dict.fromkeys(("mean_popularity", "gini", "coverage", "tail"), 0.0)
    head = counts.argsort(descending=True, stable=True)[: round(HEAD * len(counts))]
    ascending, number = listed.sort().values.double(), len(listed)
    rank = torch.arange(1, number + 1, dtype=torch.float64)
    return {
        "mean_popularity": float((listed.double() * counts).sum() / places),
        "gini": float(((2 * rank - number - 1) * ascending).sum() / (number * places)),
        "coverage": float((listed > 0).double().mean()),
        "tail": 1 - float(listed[head].sum()) / places,
    }
