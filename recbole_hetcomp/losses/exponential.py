"""exp of numbers far below 0, where it is nothing beside a mass of 1 but costs a CPU up to 250 times as much.

MKL's exp, which torch uses on a CPU, leaves its fast path where the result is no normal number any more, and every product
that reads such a result is slow as well. A student that knows what it wants has many such scores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NORMAL_SHARE = 0.9  # of the exponents of normal numbers: what is left is buffer for products with small factors


def exp_floor(dtype: torch.dtype) -> float:
    """Below this exp(x) may be replaced by exp(floor), 7e-35 in float32: the sum of a billion such is lost beside 1.

    For types of fewer exponents the same, though their own exp is 0 there.
    """
    return NORMAL_SHARE * math.log(min(torch.finfo(dtype).tiny, torch.finfo(torch.float32).tiny))


def exp_or_zero(exponents: Tensor) -> Tensor:
    """exp of floats in any shape, without a gradient; exactly 0 below the floor."""
    floor = exp_floor(exponents.dtype)
    return exponents.clamp(min=floor).exp_().masked_fill_(exponents < floor, 0.0)


def log_sum_exp(scores: Tensor, dim: int = 1) -> Tensor:
    """`scores.logsumexp(dim)` of floats in any shape, with a gradient of 0 for those that add nothing to it."""
    if scores.device.type == "cpu" and scores.size(dim):
        lowest = scores.detach().amax(dim, keepdim=True) + exp_floor(scores.dtype)
        # Not `clamp`: where the best score is so large that `lowest` is rounded to it, the best keep their whole gradient;
        # clamp halves it at its bound since torch 2.14 (pytorch#191142).
        scores = torch.where(scores < lowest, lowest, scores)
    return scores.logsumexp(dim)
