"""What the teachers say together: importances summed over teachers, the best items kept.

Source: Kang et al., HetComp, WWW 2023; in the authors' code the ensemble is the plain sum over teachers. They sum dense
matrices of users by items; here a user's candidates are the items in the teachers' lists and nothing else.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.knowledge.importance import rank_importance

BLOCK = 2**18  # candidates handled at a time: few enough for the processor's cache, whatever the number of users
STEPS_IN_ONE = 32  # log2 of the steps that an importance of 1 is counted in
ID_BITS = 24  # of an item's id; a sum of importances, in steps, has the rest of an int64
ID_MASK = 2**ID_BITS - 1


def ensemble_topk(items: Tensor, importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items with the largest importance summed over teachers; ties go to the smaller item id.

    An item enters only with a sum above 0, for an importance of 0 means that no teacher has an opinion. Importances are
    counted in steps of 2^-32, at least one step each: sums of integers are exact, so that the order of the teachers
    changes not a single bit, and what is equal is a tie. (exp(-rank / temperature) tells ranks apart up to 17 temperatures.)
    The sums are a product of sparse matrices on the CPU, linear in the number of candidates.

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
    steps, lists = _steps(importance.cpu()), items.cpu()
    rows = max(1, BLOCK // (items.size(0) * items.size(2)))
    shared = steps.size(1) == 1
    blocks = [
        _topk_of_block(block, steps if shared else steps[:, start : start + rows], k)
        for start, block in zip(range(0, items.size(1), rows), lists.split(rows, 1))
    ]
    best = torch.cat(blocks).to(items.device)
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
    totals = _sums(items, steps)
    totals.data[totals.indices == 0] = 0  # no item
    if totals.nnz and int(totals.data.max()) >> (63 - ID_BITS):
        raise ValueError(f"importances sum up to {totals.data.max() / 2**STEPS_IN_ONE:.3g}; sums below 128 can be merged")
    keys = (totals.data << ID_BITS) | (ID_MASK - totals.indices)  # among equal totals the smaller id is the larger key
    keys *= totals.data > 0
    counts = np.diff(totals.indptr)[:, None]
    width = max(int(counts.max()), 1)
    padded = np.zeros((len(counts), width), dtype=np.int64)
    padded[np.arange(width) < counts] = keys
    best = torch.from_numpy(padded).topk(min(k, width), dim=1).values
    return pad(best, (0, k - best.size(1)))


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
