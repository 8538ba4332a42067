"""What a loss over the whole catalogue asks of a student's scores: a few items' scores, and the log-mass of all others.

Three answers: `Dense` has a score for every item, `streaming.Vectors` computes them a block at a time, `sampling.Sampled`
estimates the mass from a sample. The losses do not know which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor


class ShortList(NamedTuple):
    """The scores of a few items a user, best first."""

    scores: Tensor  # [B, n]
    present: Tensor  # [B, n] bool, False = padding


class Catalogue(Protocol):
    """The scores of all items for a batch of B users."""

    def listed(self, items: Tensor) -> ShortList:
        """The scores of `items` [B, n] integer ids, 0 = padding."""

    def log_mass(self, excluded: Tensor) -> Tensor:
        """[B] log sum exp(score) over all items but 0 and `excluded` [B, n], 0 = padding; -inf where none is left."""


@dataclass(frozen=True)
class Dense:
    """Every score at hand: [B, I] float, column 0 ignored."""

    scores: Tensor

    def listed(self, items: Tensor) -> ShortList:
        """The scores of `items` [B, n] integer ids, 0 = padding, looked up."""
        return ShortList(self.scores.gather(1, items.long()), items > 0)

    def log_mass(self, excluded: Tensor) -> Tensor:
        """[B] log sum exp(score) over all items but 0 and `excluded` [B, n], 0 = padding; -inf where none is left."""
        return log_mass(self.scores, excluded)


def log_mass(scores: Tensor, excluded: Tensor) -> Tensor:
    """log sum exp(score) over the catalogue without `excluded` and column 0.

    Args:
        scores: [B, I] float
        excluded: [B, n] integer item ids, repeats allowed, 0 = padding

    Returns:
        [B]; -inf where nothing is left, with a gradient of 0
    """
    floor = log_floor(scores)
    columns = torch.cat([excluded.long(), excluded.new_zeros(len(excluded), 1, dtype=torch.long)], 1)
    mass = log_sum_exp(scores.scatter(1, columns, floor))
    return torch.where(mass <= floor / 2, -torch.inf, mass)  # NaN stays NaN, for the trainer to see
