"""The few items that stand for the catalogue in a softmax: what a user has had, what teachers recommend, and others."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_outside


def candidates(
    history: History,
    lists: Tensor,
    users: Tensor,
    n_top: int,
    n_random: int,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """[B, 1 + n_top + n_random] int64, 0 = none left: a training item, items of the user's list, and others.

    Args:
        history: the training items
        lists: [U, k] integer item ids, best first, 0 = no item, on the CPU
        users: [B] int64 on the CPU
        n_top: items from the list, drawn by exp(-rank / temperature); all that it has where these are fewer
        n_random: items that are neither in the list nor in training, drawn uniformly with replacement
        temperature: ranks over which the chance falls by a factor e
        generator: on the CPU
    """
    listed = lists[users]
    positive = history.drawn(users, generator)[:, None]
    top = draw_by_rank(listed, n_top, temperature, generator)
    excluded = torch.cat([history.padded(users), listed.long()], 1)
    return torch.cat([positive, top, draw_outside(excluded, n_random, history.n_items, generator)], 1)
