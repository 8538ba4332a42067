"""A linear map into fewer dimensions that keeps cosines, near ones above all: what stands between teacher and student.

Source: Mannix, Hodgkinson, Bondell, "Preserving Angles Improves Feature Distillation", TMLR 2025,
https://arxiv.org/abs/2411.15239. The further dimension that makes inner products cosines is that of Neyshabur, Srebro, "On
Symmetric and Asymmetric LSHs for Inner Product Search", ICML 2015.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from recbole_hetcomp.knowledge.principal import principal_directions
from recbole_hetcomp.knowledge.sampling import some_of

TEMPERATURES = tuple(step / 100 for step in range(1, 11))
SELF = -1e8  # in the place of a point's cosine with itself: no temperature leaves anything of it


def augmented(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """([n, D + 1], [m, D + 1]): a user's cosines with the items have the order of its inner products.

    An item gets what its length lacks of the longest one's, sqrt(M^2 - |t|^2), a user 0.
    """
    squares = items.square().sum(1, keepdim=True)
    lacking = (squares.max() - squares).clamp(min=0).sqrt()
    return torch.cat([users, torch.zeros_like(users[:, :1])], 1), torch.cat([items, lacking], 1)


def log_joint(cosines: Tensor, temperatures: Tensor) -> Tensor:
    """[T, N, N] log P: the softmax of each row of cosines / temperature, added to its transpose, of sum 1 in all.

    Args:
        cosines: [N, N]; the diagonal, a point with itself, gets nothing
        temperatures: [T] above 0
    """
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    rows = (cosines.masked_fill(itself, SELF) / temperatures[:, None, None]).log_softmax(2)
    return torch.logaddexp(rows, rows.mT) - math.log(2 * len(cosines))


def head_loss(points: Tensor, mapped: Tensor, weights: Tensor | None = None) -> Tensor:
    """[]: the mean over `TEMPERATURES` of KL(P || Q), with P of the cosines of the points and Q of the mapped points'.

    Args:
        points: [N, D] the teacher's
        mapped: [N, d], with gradients
        weights: [N, N] factors of the pairs' probabilities, in P and in Q, whose sums are 1 again; None: 1 each
    """
    theirs, ours = (rows @ rows.T for rows in (normalize(points, dim=1), normalize(mapped, dim=1)))
    temperatures = torch.tensor(TEMPERATURES, dtype=points.dtype, device=points.device)
    log_p, log_q = (_weighted(log_joint(cosines, temperatures), weights) for cosines in (theirs, ours))
    return (log_p.exp() * (log_p - log_q)).sum() / len(TEMPERATURES)


def _weighted(log_joints: Tensor, weights: Tensor | None) -> Tensor:
    """[T, N, N]: the logarithms of distributions, each probability times its weight [N, N], of sum 1 again.

    Weighted terms of the divergence would be none: their sum may be below 0, and is not least where Q is P.
    """
    if weights is None:
        return log_joints
    found = log_joints + weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    return found - found.logsumexp((1, 2), keepdim=True)


def fit_head(
    users: Tensor,
    items: Tensor,
    size: int,
    generator: torch.Generator,
    *,
    steps: int,
    n_points: int,
    learning_rate: float,
    cross_weight: float,
) -> Tensor:
    """[D, d'] the map x -> x A after the last of the steps, which lower `head_loss` from draw to draw; d' = min(d, D).

    It begins with the principal directions of the unit vectors, which keep all cosines where the points lie in d dimensions.
    Whether some map between was better is not measured.

    Args:
        users, items: [n, D], [m, D] the points, mapped alike
        size: d
        generator: on the CPU
        steps: of AdamW, each on `n_points` points, one half users and one half items, drawn uniformly
        learning_rate: of the first step; it falls to 0
        cross_weight: of the pairs of a user and an item, beside 1 for pairs of a kind
    """
    units = [normalize(rows, dim=1) for rows in (users, items)]
    head = principal_directions(torch.cat(units), size).requires_grad_()
    optimizer = torch.optim.AdamW([head], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        chosen = [some_of(torch.arange(len(rows)), max(n_points // 2, 2), generator) for rows in units]
        points = torch.cat([rows[ids.to(rows.device)] for rows, ids in zip(units, chosen)])
        kind = torch.arange(len(points), device=points.device) < len(chosen[0])
        weights = None if cross_weight == 1 else torch.where(kind[:, None] == kind, 1.0, cross_weight).to(points)
        optimizer.zero_grad()
        head_loss(points, points @ head, weights).backward()
        optimizer.step()
        schedule.step()
    return head.detach()
