"""The few items over which a teacher's and a student's softmax are compared: drawn anew for every batch."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_outside


def candidates(
    history: History,
    lists: Tensor,
    users: Tensor,
    generator: torch.Generator,
    *,
    n_top: int,
    n_random: int,
    temperature: float,
) -> Tensor:
    """[B, 1 + n_top + n_random] int64, 0 = none left: a training item, items of the user's list, and others, on the CPU.

    Args:
        history: the training items
        lists: [U, k] integer item ids, best first, 0 = no item, on the CPU
        users: [B] int64, on the CPU
        generator: on the CPU
        n_top: items from the list, in its order
        n_random: items that are neither in the list nor in the training set
        temperature: ranks over which an item's chance to be drawn from the list falls by a factor e
    """
    observed, listed = history.padded(users), lists[users]
    positive = history.drawn(users, generator)[:, None]
    top = draw_by_rank(listed, n_top, temperature, generator)
    others = draw_outside(torch.cat([observed, listed.long()], 1), n_random, history.n_items, generator)
    return torch.cat([positive, top, others], 1)
