"""The log-mass of the catalogue from a sample of items, for students whose scores can only be had pair by pair.

Source: importance sampling with the correction by log q, as in Bengio and Senecal, "Quick Training of Probabilistic Neural
Nets by Importance Sampling", AISTATS 2003, and in Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations", RecSys 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_hetcomp.knowledge.sorted_rows import in_same_row
from recbole_hetcomp.losses.catalogue import ShortList
from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor


@dataclass(frozen=True)
class Sampled:
    """A catalogue of which only a sample is scored.

    The mass of what is not excluded, sum exp(s), is estimated by the mean of exp(s_j) / q_j over the draws j, where what is
    excluded counts 0. That is unbiased; its logarithm is, to first order in the deviation. The lists are scored exactly.

    Attributes:
        score: item ids [B, n] -> scores [B, n] of the batch's users, with gradients
        items: [S] int64, drawn with replacement, the same for all users
        log_q: [S] float, log of the probability with which each is drawn
    """

    score: Callable[[Tensor], Tensor]
    items: Tensor
    log_q: Tensor

    def listed(self, items: Tensor) -> ShortList:
        """The exact scores of `items` [B, n] integer ids, 0 = padding."""
        return ShortList(self.score(items.long()), items > 0)

    def log_mass(self, excluded: Tensor) -> Tensor:
        """[B] log sum exp(score) but for 0 and `excluded` [B, n], as the sample estimates it; -inf if none of it is left."""
        drawn = self.items.expand(len(excluded), -1)  # [B, S]
        scores = self.score(drawn)
        floor = log_floor(scores)
        weighted = (scores - self.log_q).masked_fill(in_same_row(drawn, excluded) | (drawn == 0), floor)
        mass = log_sum_exp(weighted)
        return torch.where(mass <= floor / 2, -torch.inf, mass - math.log(len(self.items)))


def draw(q: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n draws with replacement: (items [n] int64, log of their probabilities [n] float32).

    Args:
        q: [I] float64, the probability of each item, summing to 1; 0 for the padding item
        generator: of the device of `q`
    """
    items = torch.searchsorted(q.cumsum(0), torch.rand(n, generator=generator, dtype=q.dtype, device=q.device), right=True)
    items = items.clamp(max=len(q) - 1)
    return items, q[items].log().float()


def popularity_proposal(counts: Tensor, exponent: float = 0.75) -> Tensor:
    """[I] float64: (1 + count) ** exponent, normalised, 0 for the padding item: near where a student's mass is.

    Args:
        counts: [I] training interactions of each item
        exponent: 0 draws all items alike
    """
    weight = (1.0 + counts.double()).pow(exponent)
    weight[0] = 0.0
    return weight / weight.sum()
