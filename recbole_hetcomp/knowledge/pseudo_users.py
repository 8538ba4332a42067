"""Users that are not there: training histories a little changed, and the vectors that belong to them.

Source: made after the query generation of Kim et al., "EmbedDistill: A Geometric Knowledge Distillation for Information
Retrieval", 2023, https://arxiv.org/abs/2301.12005; for histories instead of text it is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def nearest_neighbours(rows: Tensor, k: int, block: int) -> Tensor:
    """[n, k'] int64: the k' = min(k, n - 2) rows of the largest cosine with each row, neither row 0 nor the row itself.

    Args:
        rows: [n, D]; row 0 is padding
        k: neighbours
        block: rows whose cosines with all are held at once
    """
    units, found = normalize(rows, dim=1), []
    for index in torch.arange(len(rows), device=rows.device).split(block):
        near = units[index] @ units.T
        near[:, 0] = -torch.inf
        near.scatter_(1, index[:, None], -torch.inf)
        found.append(near.topk(min(k, len(rows) - 2), dim=1).indices)
    return torch.cat(found)


def perturbed(
    histories: Tensor,
    others: Tensor,
    neighbours: Tensor,
    generator: torch.Generator,
    *,
    drop: float,
    replace: float,
    mix: float,
) -> Tensor:
    """[b, H + H'] int64, 0 = no item: histories after three changes, each drawn anew.

    Every item is dropped with chance `drop`; what is left is replaced, with chance `replace`, by one of its neighbours; and
    a whole history gets, with chance `mix`, each item of another one with chance 1/2.

    Args:
        histories: [b, H] item ids, 0 = no item
        others: [b, H'] likewise
        neighbours: [I, k] int64
        generator: of the CPU, as all tensors are
    """

    def chance(shape: torch.Size | tuple[int, int], probability: float) -> Tensor:
        return torch.rand(shape, generator=generator) < probability

    which = torch.randint(neighbours.size(1), histories.shape, generator=generator)
    changed = torch.where(chance(histories.shape, replace), neighbours[histories, which], histories)
    kept = (histories > 0) & ~chance(histories.shape, drop)
    mixed = chance(others.shape, 0.5) & chance((len(others), 1), mix)
    return torch.cat([changed * kept, others * mixed], 1)


def packed(histories: Tensor) -> Tensor:
    """[b, n] int64, 0 = no item: the items of `histories` [b, H] in another order, and no wider than the longest of them."""
    ordered = histories.sort(dim=1, descending=True).values
    return ordered[:, (ordered > 0).any(0)]


def ridge_fold_in(rows: Tensor, present: Tensor, ridge: float) -> Tensor:
    """[b, D]: the user vector whose scores of its items are nearest to 1, (X^T X + ridge 1)^-1 X^T 1; 0 without items.

    Args:
        rows: [b, H, D] the vectors X of a history's items
        present: [b, H] bool, False = no item
        ridge: above 0

    Autocast, which would round the products before they are inverted, is off.
    """
    with torch.autocast(rows.device.type, enabled=False):
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32)) * present[..., None]
        gram = rows.transpose(1, 2) @ rows + ridge * torch.eye(rows.size(2), dtype=rows.dtype, device=rows.device)
        return torch.linalg.solve_ex(gram, rows.sum(1)).result  # `solve` would wait for the device to say that it could
