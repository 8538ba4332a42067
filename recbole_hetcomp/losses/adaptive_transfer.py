"""Adaptive knowledge transfer: the loose loss that HetComp begins with, and the strict one that it ends with.

Observed and unobserved items are lists of their own, each above the tail and never against each other, lest relevant
unobserved items be pushed below the observed ones. The tail is every unobserved item that is not a target: a softmax
over the catalogue, without sampling. Source: Kang et al., HetComp, WWW 2023; constants of the authors' code.

All that a loss takes from the scores is the short lists' scores and a log-mass (`catalogue.Catalogue`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.losses.catalogue import Catalogue, ShortList
from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor, plackett_luce_loss, unordered_loss


def overall_ranking_loss(scores: Catalogue, targets: Tensor, observed: Tensor, history: Tensor) -> Tensor:
    """Phase one: every target and every observed item above the tail, no order among them.

    The tail: all items but 0, those in `history` and those in `targets`. Source: Kang et al., HetComp, WWW 2023.

    Args:
        scores: of B users
        targets: [B, K] integer item ids, the ensemble's unobserved items, each once, 0 = padding
        observed: [B, P] integer item ids, the training items to learn from, 0 = padding
        history: [B, H] integer item ids, all training items of the user, 0 = padding

    Returns:
        [B], natural log, >= 0
    """
    tail = scores.log_mass(torch.cat([history, targets], 1))
    above = scores.listed(torch.cat([observed, targets], 1))  # the tail is the same for both
    return unordered_loss(above.scores, tail, above.present)


def fine_ranking_loss(
    scores: Catalogue,
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
        scores: of B users
        targets: [B, K] integer item ids outside the history, best first, each once, 0 = padding
        observed: [B, P] integer item ids, best first, 0 = padding
        history: [B, H] integer item ids, all training items of the user, 0 = padding
        depths: fractions of K in (0, 1], largest first
        weights: one for each depth

    Returns:
        [B], natural log, >= 0 for weights >= 0
    """
    sizes = list_sizes(targets.size(1), depths)
    if len(weights) != len(sizes):
        raise ValueError(f"{len(sizes)} depths need as many weights, not {tuple(weights)}")
    n_observed = observed.size(1)
    both = scores.listed(torch.cat([observed, targets], 1))  # one look-up
    observed_list, target_list = (ShortList(*parts) for parts in zip(*(part.tensor_split([n_observed], 1) for part in both)))
    # The tails differ by the targets between two depths alone: one pass over the catalogue, and those added.
    least = scores.log_mass(torch.cat([history, targets[:, : sizes[0]]], 1))
    tails = [_with(least, target_list, size, sizes[0]) for size in sizes]
    lists = [observed_list, *(ShortList(*(part[:, :size] for part in target_list)) for size in sizes)]
    stacked = _stacked(lists)
    losses = plackett_luce_loss(stacked.scores, torch.cat([tails[0], *tails]), stacked.present).view(len(lists), -1)
    return torch.stack([loss * weight for loss, weight in zip(losses, (1.0, *weights))]).sum(0)


def list_sizes(n_targets: int, depths: Sequence[float]) -> list[int]:
    """How many of `n_targets` each depth reads: at least one, decreasing."""
    if not depths or any(not 0 < depth <= 1 for depth in depths) or list(depths) != sorted(depths, reverse=True):
        raise ValueError(f"depths must be fractions in (0, 1], largest first, not {tuple(depths)}")
    return [max(1, int(n_targets * depth)) for depth in depths]


def _with(tail: Tensor, targets: ShortList, start: int, stop: int) -> Tensor:
    """[B]: the log-mass `tail` with the targets from place `start` to `stop` added."""
    if start == stop:
        return tail
    floor = log_floor(tail)  # finite, so that no gradient is NaN
    added = targets.scores[:, start:stop].masked_fill(~targets.present[:, start:stop], floor)
    return torch.logaddexp(tail.clamp(min=floor), log_sum_exp(added))


def _stacked(lists: Sequence[ShortList]) -> ShortList:
    """The rows of all lists, one list after the other, padded to the longest: one pass over many rows."""
    width = max(part.scores.size(1) for part in lists)
    padded = [[pad(tensor, (0, width - tensor.size(1))) for tensor in part] for part in lists]
    return ShortList(*(torch.cat(tensors) for tensors in zip(*padded)))
