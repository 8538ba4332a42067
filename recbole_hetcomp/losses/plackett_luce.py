"""The two list losses that list-wise distillation is made of: an order above a tail, and a set above a tail.

The tail is the log-mass of all items that should rank below the list, log sum exp(score). Everything stays in the log
domain, so that no clamp of the scores is needed.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from recbole_hetcomp.losses.exponential import exp_or_zero, log_sum_exp


def plackett_luce_loss(ranked_scores: Tensor, tail: Tensor, mask: Optional[Tensor] = None) -> Tensor:
    """-log of the probability that the list comes in this order, and all of it before anything of the tail.

    sum over k of log( exp(tail) + sum over j >= k of exp(s_j) ) - s_k. Without a tail (-inf) it is ListMLE, with one
    item the softmax cross-entropy.

    Source: Kang et al., "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020, the relaxed
    ranking loss, which HetComp (Kang et al., WWW 2023) uses with every other unobserved item as the tail.

    Args:
        ranked_scores: [B, n] float, best item first; n may be 0
        tail: [B], log-mass of the items below; -inf = none
        mask: [B, n] bool, True = there is an item; other slots add nothing and hold no mass. None = all

    Returns:
        [B], natural log, >= 0; the gradient is finite for any finite scores
    """
    # A finite floor in place of -inf: exp(floor - anything) is 0, while -inf - (-inf) in the backward pass is NaN.
    floor = log_floor(ranked_scores)
    ranked = ranked_scores if mask is None else ranked_scores.masked_fill(~mask, floor)
    return _PlackettLuce.apply(ranked, tail.clamp(min=floor))


def relaxed_ranking_loss(scores: Tensor, ranked: Tensor, others: Tensor) -> Tensor:
    """How unlikely the student finds the order of some items, each above all of some others, whose order is open.

    PL(s_1 .. s_n; log sum over j of exp(s'_j)). Source: DE-RRD, as above.

    Args:
        scores: [B, n + m] of the ranked items, then of the others
        ranked: [B, n] integer ids, best first, 0 = none
        others: [B, m] integer ids, 0 = none

    Returns:
        [B], natural log, >= 0
    """
    of_ranked, of_others = scores.split([ranked.size(1), others.size(1)], 1)
    tail = log_sum_exp(of_others.masked_fill(others == 0, -torch.inf))
    return plackett_luce_loss(of_ranked, tail, ranked > 0)


class _PlackettLuce(torch.autograd.Function):
    """With R_k the log-mass of what is not yet ranked at place k: sum over k of R_k - s_k.

    Its gradient to s_j is exp(s_j + log sum over k <= j of exp(-R_k)) - 1, one more cumulative sum in the log domain. A
    score at the floor is no item.
    """

    @staticmethod
    def forward(ctx: Any, ranked: Tensor, tail: Tensor) -> Tensor:
        with_tail = torch.cat([ranked, tail[:, None]], 1)  # [B, n + 1]
        remaining = with_tail.flip(1).logcumsumexp(1).flip(1)[:, :-1]
        present = ranked > log_floor(ranked)
        ctx.save_for_backward(with_tail, remaining, present)
        return (remaining - ranked).masked_fill_(~present, 0.0).sum(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        with_tail, remaining, present = ctx.saved_tensors
        inverse = (-remaining).masked_fill_(~present, log_floor(remaining))
        so_far = pad(inverse, (1, 0), value=log_floor(remaining)).logcumsumexp(1)  # [B, n + 1], behind a place for no item
        log_share = with_tail + torch.cat([so_far[:, 1:], so_far[:, -1:]], 1)
        share = exp_or_zero(log_share)
        share[:, :-1] -= present.to(share.dtype)
        share *= gradient[:, None]
        return share[:, :-1], share[:, -1]


def unordered_loss(scores: Tensor, tail: Tensor, mask: Optional[Tensor] = None) -> Tensor:
    """Each item of a set above the tail, none against another: sum over i of log(1 + exp(tail - s_i)).

    Source: Kang et al., HetComp, WWW 2023, the loss of the first phase.

    Args:
        scores: [B, n] float, in any order; n may be 0
        tail: [B], log-mass of the items below; -inf = none, and the loss is 0
        mask: [B, n] bool, True = there is an item. None = all

    Returns:
        [B], natural log, >= 0
    """
    present = scores if mask is None else scores.masked_fill(~mask, 0.0)
    terms = -logsigmoid(present - tail[:, None])
    return (terms if mask is None else terms.masked_fill(~mask, 0.0)).sum(1)


def log_floor(scores: Tensor) -> float:
    """Stands for log 0 in the type of `scores`: finite, with buffer for differences."""
    return torch.finfo(scores.dtype).min / 2
