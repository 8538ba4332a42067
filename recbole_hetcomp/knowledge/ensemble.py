"""What the teachers say together: importances summed over teachers, the best items kept.

Source: Kang et al., HetComp, WWW 2023; in the authors' code the ensemble is the plain sum over teachers. They sum dense
matrices of users by items; here a user's candidates are the items in the teachers' lists and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.knowledge.importance import rank_importance

# Candidates handled at a time: bounds the memory at some 100 MB whatever the number of users, and stays near the cache.
BLOCK = 2**20


def ensemble_topk(items: Tensor, importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items with the largest importance summed over teachers; ties go to the smaller item id.

    An item enters only with a sum above 0, for an importance of 0 means that no teacher has an opinion. An item's
    importances are summed in float64, smallest first: the order of the teachers changes not a single bit.

    Args:
        items: [X, U, L] integer item ids, 0 = no item, in any order
        importance: [X, U, L], any float type; entries not above 0 are no opinion
        k: length of the lists

    Returns:
        items [U, k] int64 and importance [U, k] float32 (float64 if `importance` is), best first; rows with fewer than
        k candidates end in 0
    """
    if items.shape != importance.shape:
        raise ValueError(f"items {tuple(items.shape)} and importance {tuple(importance.shape)} differ in shape")
    dtype = torch.float64 if importance.dtype == torch.float64 else torch.float32
    occupied = ((items > 0) & (importance > 0)).any(0).any(0)  # [L]; past the importance's cut-off no column is
    items, importance = items[..., occupied], importance[..., occupied]
    rows = max(1, BLOCK // max(1, items.size(0) * items.size(2)))
    blocks = [_topk_of_block(*block, k) for block in zip(items.split(rows, 1), importance.split(rows, 1))]
    best, total = (torch.cat(parts) for parts in zip(*blocks))
    return best, total.to(dtype)


def observed_ranking(observed: Tensor, k: int, *, temperature: float = 10.0) -> Tensor:
    """A user's training items as the teachers rank them together: the sum of exp(-rank / temperature), best k first.

    Ranks are among the user's training items alone. There is no cut-off, so that no training item is lost.

    Source: Kang et al., HetComp, WWW 2023, distil a fixed ranking of the observed items. How it is computed is not
    published; this is the unobserved items' ensemble without its consistency term.

    Args:
        observed: [X, U, P] integer item ids, each teacher's order of the user's training items, 0-padded at the end
        k: length of the lists
        temperature: ranks over which an item's importance falls by a factor e

    Returns:
        [U, k] int64, 0-padded; ties go to the smaller item id
    """
    ranks = torch.arange(observed.size(-1), dtype=torch.float64, device=observed.device)
    importance = rank_importance(ranks, temperature=temperature, cutoff=observed.size(-1))
    return ensemble_topk(observed, importance.expand(observed.shape), k)[0]


def _topk_of_block(items: Tensor, importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`ensemble_topk` of a few users: sort the candidates by id, sum each run of equal ids, sort the sums."""
    ids = items.transpose(0, 1).flatten(1).long()  # [U, X * L]
    worth = importance.transpose(0, 1).flatten(1).double()
    absent = ~((ids > 0) & (worth > 0))
    worth, order = worth.masked_fill(absent, 0.0).sort(1)
    ids, by_id = ids.masked_fill(absent, 0).gather(1, order).sort(dim=1, stable=True)
    total = _sum_of_runs(ids, worth.gather(1, by_id))
    # One entry an item, its run's first; absent entries (id 0) hold no importance. Ids ascend here, hence a stable sort
    # leaves equal sums in the order of their ids.
    total[:, 1:].masked_fill_(ids[:, 1:] == ids[:, :-1], 0.0)
    total, order = total.sort(dim=1, descending=True, stable=True)
    total = total[:, :k]
    best = ids.gather(1, order[:, :k]).masked_fill(total == 0, 0)
    missing = k - best.size(1)
    return pad(best, (0, missing)), pad(total, (0, missing))


def _sum_of_runs(ids: Tensor, values: Tensor) -> Tensor:
    """[U, N]: at the first of equal neighbours in `ids`, the sum of their `values`; id 0 is left alone.

    Windows of 1, 2, 4, ... columns, so that the order of summation is fixed (no atomics) and no sum sees the values of
    another item, as a difference of cumulative sums would.
    """
    total, step = values, 1
    while step < ids.size(1):
        same = (ids[:, step:] == ids[:, :-step]) & (ids[:, step:] > 0)
        if not same.any():
            break
        total = total + pad(total[:, step:].masked_fill(~same, 0.0), (0, step))
        step *= 2
    return total
