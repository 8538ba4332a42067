"""How far two distributions over the same few candidates are from each other.

Source: Kullback and Leibler, "On Information and Sufficiency", 1951; Lin, "Divergence Measures Based on the Shannon
Entropy", 1991.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_hetcomp.losses.plackett_luce import log_floor

DIVERGENCES = ("forward", "reverse", "js")


def log_probabilities(scores: Tensor, present: Tensor) -> Tensor:
    """[B, n] float: log softmax of `scores` [B, n] over what is `present` [B, n] bool; 0 for what is not."""
    floor = log_floor(scores)
    return scores.masked_fill(~present, floor).log_softmax(1).masked_fill(~present, 0.0)


def kullback_leibler(log_p: Tensor, log_q: Tensor, present: Tensor) -> Tensor:
    """[B]: KL(p || q) = sum over i of p_i (log p_i - log q_i), in nats, of `log_probabilities` [B, n]; 0 without items."""
    return (log_p.exp() * (log_p - log_q) * present).sum(1)


def divergence(log_p: Tensor, log_q: Tensor, present: Tensor, kind: str) -> Tensor:
    """[B]: from p, the teacher's, to q, the student's, both `log_probabilities` [B, n].

    forward: KL(p || q); reverse: KL(q || p); js: Jensen's and Shannon's, their mean divergence from (p + q) / 2.
    """
    if kind == "forward":
        return kullback_leibler(log_p, log_q, present)
    if kind == "reverse":
        return kullback_leibler(log_q, log_p, present)
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kullback_leibler(log_p, log_mean, present) + kullback_leibler(log_q, log_mean, present)) / 2


def layer_divergences(student: Sequence[Tensor], teacher: Sequence[Tensor], valid: Tensor, kind: str) -> Tensor:
    """[S, T]: for each pair of layers the mean over valid positions of the divergence between their softmaxes.

    Args:
        student: S layers [B, n, d]
        teacher: T layers [B, n, d]
        valid: [B, n] bool; where no position is, all are 0
        kind: forward: KL(teacher || student); reverse: KL(student || teacher)
    """
    log_q, log_p = (torch.stack([*layers]).float().log_softmax(-1) for layers in (student, teacher))
    if kind == "reverse":
        return _mean_divergences(log_q, log_p, valid)
    return _mean_divergences(log_p, log_q, valid).T


def _mean_divergences(log_p: Tensor, log_q: Tensor, valid: Tensor) -> Tensor:
    """[X, Y]: mean over valid positions of KL(p_x || q_y), of [X, B, n, d] and [Y, B, n, d]."""
    weights = valid / valid.sum().clamp(min=1)
    p = log_p.exp() * weights[..., None]
    return (p * log_p).sum((1, 2, 3))[:, None] - torch.einsum("xbnd,ybnd->xy", p, log_q)
