"""What the teachers say together: importances summed over teachers, the best items kept.

Source: Kang et al., HetComp, WWW 2023; in the authors' code the ensemble is the plain sum over teachers. They sum dense
matrices of users by items; here a user's candidates are the items in the teachers' lists and nothing else.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.knowledge.importance import rank_importance

BLOCK = 2**18  # candidates handled at a time on the CPU: few enough for its cache, whatever the number of users
BLOCK_ELSEWHERE = 2**22  # and on other devices, where few large pieces are faster
STEPS_IN_ONE = 32  # log2 of the steps that an importance of 1 is counted in
ID_BITS = 24  # of an item's id; a sum of importances, in steps, has the rest of an int64
ID_MASK = 2**ID_BITS - 1
Integers = TypeVar("Integers", Tensor, np.ndarray)


def ensemble_topk(items: Tensor, importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items with the largest importance summed over teachers; ties go to the smaller item id.

    An item enters only with a sum above 0, for an importance of 0 means that no teacher has an opinion. Importances are
    counted in steps of 2^-32, at least one step each: sums of integers are exact, so that the order of the teachers
    changes not a single bit, and what is equal is a tie. (exp(-rank / temperature) tells ranks apart up to 17 temperatures.)
    On the CPU the sums are a product of sparse matrices, linear in the number of candidates; elsewhere they come by sorting.

    Args:
        items: [X, U, L] integer item ids below 2^24, 0 = no item, in any order
        importance: [X, U, L], or [X, 1, L] where all users' are the same; any float type; what is not above 0 is no
            opinion
        k: length of the lists

    Returns:
        items [U, k] int64 and importance [U, k] float32 (float64 if `importance` is), best first, on the device of
        `items`; rows with fewer than k candidates end in 0

    Raises:
        ValueError: shapes differ, an id is negative or not below 2^24, or a sum of importances is not below 128.
    """
    if importance.shape not in (items.shape, (items.size(0), 1, items.size(2))):
        raise ValueError(f"items {tuple(items.shape)} and importance {tuple(importance.shape)} differ in shape")
    dtype = torch.float64 if importance.dtype == torch.float64 else torch.float32
    if not items.numel():
        nothing = torch.zeros(items.size(1), k, dtype=torch.int64, device=items.device)
        return nothing, nothing.to(dtype)
    least, most = int(items.min()), int(items.max())
    if least < 0 or most > ID_MASK:
        raise ValueError(f"item ids are {least} to {most}; those from 0 to {ID_MASK} can be merged")
    steps = _steps(importance.to(items.device))
    rows = max(1, (BLOCK if items.device.type == "cpu" else BLOCK_ELSEWHERE) // (items.size(0) * items.size(2)))
    shared = steps.size(1) == 1
    blocks = [
        _topk_of_block(block, steps if shared else steps[:, start : start + rows], k)
        for start, block in zip(range(0, items.size(1), rows), items.split(rows, 1))
    ]
    best = torch.cat(blocks)
    found = best > 0
    return (ID_MASK - (best & ID_MASK)) * found, ((best >> ID_BITS).double() / 2**STEPS_IN_ONE).to(dtype)


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


def _topk_of_block(items: Tensor, steps: Tensor, k: int) -> Tensor:
    """[B, k] int64 of a few users: the largest sums, each before what is left of an id taken from the largest, or 0."""
    keys = (_keys_by_product if items.device.type == "cpu" else _keys_by_sorting)(items, steps)
    best = keys.topk(min(k, keys.size(1)), dim=1).values
    return pad(best, (0, k - best.size(1)))


def _keys_by_product(items: Tensor, steps: Tensor) -> Tensor:
    """[B, n] int64: the `_keys` of each user's items, 0 in the places that are left; on the CPU.

    Args:
        items: [X, B, L] integer
        steps: [X, B or 1, L] int64
    """
    sums = _sums(items, steps)
    counts = np.diff(sums.indptr)[:, None]
    padded = np.zeros((len(counts), max(int(counts.max()), 1)), dtype=np.int64)
    padded[np.arange(padded.shape[1]) < counts] = _keys(sums.indices, sums.data)
    return torch.from_numpy(padded)


def _keys_by_sorting(items: Tensor, steps: Tensor) -> Tensor:
    """[B, X * L] int64: as `_keys_by_product`, on any device."""
    ids, order = items.long().transpose(0, 1).flatten(1).sort(dim=1)
    counts = steps.expand(items.shape).transpose(0, 1).flatten(1).gather(1, order)
    running, last = counts.cumsum(1), torch.ones_like(ids, dtype=torch.bool)
    last[:, :-1] = ids[:, 1:] != ids[:, :-1]
    before = ((running - counts) * last.roll(1, dims=1)).cummax(1).values  # what had been counted when the id began
    return _keys(ids, (running - before) * last)


def _keys(ids: Integers, totals: Integers) -> Integers:
    """int64: larger for a larger total, among equal ones for a smaller id; 0 for no item, and for a total of 0.

    Args:
        ids, totals: integers of one shape, both tensors or both numpy's, which are faster on the CPU; `totals` is changed
    """
    totals[ids == 0] = 0
    if len(totals) and (most := int(totals.max())) >> (63 - ID_BITS):
        raise ValueError(f"importances sum up to {most / 2**STEPS_IN_ONE:.3g}; sums below 128 can be merged")
    keys = (totals << ID_BITS) | (ID_MASK - ids)
    keys *= totals > 0
    return keys


def _sums(items: Tensor, steps: Tensor) -> csr_matrix:
    """Each user's row of summed steps: (who belongs to whom [B, X * B]) @ (all lists as rows [X * B, items]).

    Args:
        items: [X, B, L] integer
        steps: [X, B or 1, L] int64
    """
    n_teachers, n_users, width = items.shape
    entries = steps.expand(items.shape).reshape(-1).numpy()
    ends = np.arange(n_teachers * n_users + 1) * width
    lists = csr_matrix((entries, items.reshape(-1).numpy(), ends), shape=(len(ends) - 1, int(items.max()) + 1))
    rows = np.arange(n_teachers) * n_users + np.arange(n_users)[:, None]  # of each user, one a teacher
    ones = np.ones(rows.size, dtype=np.int64)
    users = csr_matrix((ones, rows.reshape(-1), np.arange(n_users + 1) * n_teachers), shape=(n_users, rows.size))
    return users @ lists


def _steps(importance: Tensor) -> Tensor:
    """int64, of the same shape: the importances in steps, 0 where they are not above 0."""
    steps = (importance.double() * 2**STEPS_IN_ONE).round_().clamp_(1, 2.0 ** (63 - ID_BITS))
    return steps.masked_fill_(~(importance > 0), 0).long()
