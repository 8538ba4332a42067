"""How much one teacher's opinion of an item weighs in the ensemble: a number >= 0 from the item's rank.

An importance of 0 means "no opinion". Ranks are 0-based positions in a user's list of unobserved items.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def rank_importance(
    ranks: Tensor,
    rank_std: Optional[Tensor] = None,
    *,
    temperature: float = 10.0,
    consistency_temperature: float = 100.0,
    cutoff: int = 100,
) -> Tensor:
    """exp(-rank / temperature) + exp(-std / consistency_temperature): ranked high, and steadily so.

    The second term is the teacher's consistency. It decays far slower than the first, so that below rank 20 or so the
    ensemble becomes a vote on which items stand firmly in the teachers' first `cutoff`.

    Source: Kang et al., HetComp, WWW 2023, take the ensemble of their ConCF (Kang et al., "Consensus Learning from
    Heterogeneous Objectives for One-Class Collaborative Filtering", WWW 2022); the constants are ConCF's code's.

    Args:
        ranks: any shape, 0-based; a negative rank says "no item"
        rank_std: same shape or broadcastable, standard deviation of the rank over the last snapshots; None leaves the
            consistency term out
        temperature: ranks over which the first term falls by a factor e
        consistency_temperature: standard deviations over which the second term falls by a factor e
        cutoff: items at this rank or below it have importance 0

    Returns:
        the shape of `ranks`, float32 (float64 if an argument is), in [0, 2]
    """
    dtype = _importance_dtype(ranks) if rank_std is None else _importance_dtype(ranks, rank_std)
    importance = torch.exp(-ranks.to(dtype) / temperature)
    if rank_std is not None:
        importance = importance + torch.exp(-rank_std.to(dtype) / consistency_temperature)
    return importance.masked_fill((ranks < 0) | (ranks >= cutoff), 0.0)


def power_importance(ranks: Tensor, *, exponent: float = 0.05, cutoff: Optional[int] = None) -> Tensor:
    """(rank + 1) ** -exponent: a slow decay, in which the first and the hundredth item weigh 1 and 0.79.

    Source: the ensemble in the code of Lee et al., "Continual Collaborative Distillation for Recommender System",
    KDD 2024, where ranks count from 1.

    Args:
        ranks: any shape, 0-based; a negative rank says "no item"
        exponent: 0 weighs all items alike
        cutoff: items at this rank or below it have importance 0; None counts all

    Returns:
        the shape of `ranks`, float32 (float64 if `ranks` is), in [0, 1]
    """
    absent = ranks < 0 if cutoff is None else (ranks < 0) | (ranks >= cutoff)
    positions = ranks.to(_importance_dtype(ranks)) + 1.0
    return positions.pow(-exponent).masked_fill(absent, 0.0)


def _importance_dtype(*tensors: Tensor) -> torch.dtype:
    # Half precision is how standard deviations are stored, never how importances are computed.
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
