"""Adaptive knowledge transfer: the loose loss that HetComp begins with, and the strict one that it ends with.

Observed and unobserved items are lists of their own, each above the tail and never against each other, lest relevant
unobserved items be pushed below the observed ones. The tail is every unobserved item that is not a target: a softmax
over the catalogue, without sampling. Source: Kang et al., HetComp, WWW 2023; constants of the authors' code.

A loss takes two parts from the scores, the short lists' scores and `log_mass`; the rest (`overall_from_parts`,
`fine_from_parts`) never sees the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.losses.plackett_luce import log_floor, plackett_luce_loss, unordered_loss


class ShortList(NamedTuple):
    """The scores of a few items a user, best first."""

    scores: Tensor  # [B, n]
    present: Tensor  # [B, n] bool, False = padding


def overall_ranking_loss(scores: Tensor, targets: Tensor, observed: Tensor, history: Tensor) -> Tensor:
    """Phase one: every target and every observed item above the tail, no order among them.

    The tail: all items but 0, those in `history` and those in `targets`. Source: Kang et al., HetComp, WWW 2023.

    Args:
        scores: [B, I] float; column 0 is padding and ignored
        targets: [B, K] integer item ids, the ensemble's unobserved items, 0 = padding
        observed: [B, P] integer item ids, the training items to learn from, 0 = padding
        history: [B, H] integer item ids, all training items of the user, 0 = padding

    Returns:
        [B], natural log, >= 0
    """
    tail = log_mass(scores, torch.cat([history, targets], 1))
    return overall_from_parts(short_list(scores, observed), short_list(scores, targets), tail)


def fine_ranking_loss(
    scores: Tensor,
    targets: Tensor,
    observed: Tensor,
    history: Tensor,
    *,
    depths: Sequence[float] = (0.5, 0.1),
    weights: Sequence[float] = (0.5, 0.5),
) -> Tensor:
    """Phase two: the observed items in their order, and the first targets in theirs, each list above its tail.

    A depth d reads the first n = max(1, int(K * d)) targets, and its tail is all items but 0, those in `history` and
    these n: with the defaults and K = 100, lists of 50 and 10 targets, where the targets 51 to 100 have become
    negatives and the first 10 pull twice. The observed items stand above the tail of the first depth. The code under
    review had `depths=(1.0,), weights=(1.0,)`.

    Source: Kang et al., HetComp, WWW 2023; depths and weights are the authors' code's.

    Args:
        scores: [B, I] float; column 0 is padding and ignored
        targets: [B, K] integer item ids, best first, 0 = padding
        observed: [B, P] integer item ids, best first, 0 = padding
        history: [B, H] integer item ids, all training items of the user, 0 = padding
        depths: fractions of K in (0, 1], largest first
        weights: one for each depth

    Returns:
        [B], natural log, >= 0 for weights >= 0
    """
    sizes = list_sizes(targets.size(1), depths)
    tails = [log_mass(scores, torch.cat([history, targets[:, :size]], 1)) for size in sizes]
    return fine_from_parts(short_list(scores, observed), short_list(scores, targets), tails, sizes, weights)


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
    mass = scores.scatter(1, columns, floor).logsumexp(1)
    return torch.where(mass > floor / 2, mass, -torch.inf)


def short_list(scores: Tensor, items: Tensor) -> ShortList:
    """The scores [B, n] of `items` [B, n], 0 = padding, out of `scores` [B, I]."""
    return ShortList(scores.gather(1, items.long()), items > 0)


def list_sizes(n_targets: int, depths: Sequence[float]) -> list[int]:
    """How many of `n_targets` each depth reads: at least one, decreasing."""
    if not depths or any(not 0 < depth <= 1 for depth in depths) or list(depths) != sorted(depths, reverse=True):
        raise ValueError(f"depths must be fractions in (0, 1], largest first, not {tuple(depths)}")
    return [max(1, int(n_targets * depth)) for depth in depths]


def overall_from_parts(observed: ShortList, targets: ShortList, tail: Tensor) -> Tensor:
    """[B]: `overall_ranking_loss` from the lists' scores and the log-mass [B] of the other unobserved items."""
    return unordered_loss(observed.scores, tail, observed.present) + unordered_loss(targets.scores, tail, targets.present)


def fine_from_parts(
    observed: ShortList, targets: ShortList, tails: Sequence[Tensor], sizes: Sequence[int], weights: Sequence[float]
) -> Tensor:
    """[B]: `fine_ranking_loss` from the lists' scores and, for each size, the log-mass [B] of its tail."""
    if len(weights) != len(sizes):
        raise ValueError(f"{len(sizes)} depths need as many weights, not {tuple(weights)}")
    lists = [observed, *(ShortList(*(part[:, :size] for part in targets)) for size in sizes)]
    stacked = _stacked(lists)  # all lists at once: one pass over many small rows
    losses = plackett_luce_loss(stacked.scores, torch.cat([tails[0], *tails]), stacked.present).view(len(lists), -1)
    return torch.stack([loss * weight for loss, weight in zip(losses, (1.0, *weights))]).sum(0)


def _stacked(lists: Sequence[ShortList]) -> ShortList:
    """The rows of all lists, one list after the other, padded to the longest."""
    width = max(part.scores.size(1) for part in lists)
    padded = [[pad(tensor, (0, width - tensor.size(1))) for tensor in part] for part in lists]
    return ShortList(*(torch.cat(tensors) for tensors in zip(*padded)))
