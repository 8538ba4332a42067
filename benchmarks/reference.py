"""The straightforward way, written from the maths: dense importances, loops over users, a dense mask, a full softmax.

What the package is measured against. It is the design of the authors' released code as the papers' maths suggest it; none of
that code is used.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

K, TEMPERATURE = 50, 10.0


def dense_importance(items: Tensor, n_items: int, cutoff: int = 100) -> Tensor:
    """[U, L] ranked items -> [U, I] float32 importances, as one array a teacher and checkpoint."""
    dense = torch.zeros(len(items), n_items)
    worth = torch.exp(-torch.arange(cutoff) / TEMPERATURE)
    return dense.scatter_(1, items[:, :cutoff].long(), worth.expand(len(items), -1))


def discrepancy_of_user(student: np.ndarray, teacher: np.ndarray) -> float:
    """D@50 of one user by the student's position, by a loop."""
    known = set(teacher[:K].tolist())
    gain = [(2 ** math.exp(-j / TEMPERATURE) - 1) / math.log2(j + 2) for j in range(K)]
    return 1 - sum(g for g, item in zip(gain, student[:K].tolist()) if item in known) / sum(gain)


def curriculum_pass(
    student: np.ndarray, teachers: np.ndarray, stage: np.ndarray, last: np.ndarray, threshold: float
) -> None:
    """One DKC check, a loop over teachers and users; `stage` and `last` [X, U] change in place."""
    n_teachers, n_stages, n_users = teachers.shape[:3]
    for x in range(n_teachers):
        for u in range(n_users):
            if stage[x, u] == n_stages - 1:
                continue
            now = discrepancy_of_user(student[u], teachers[x, stage[x, u] + 1, u])
            gamma = last[x, u] / now if now else math.inf
            if gamma > threshold or gamma < 1:
                stage[x, u] += 1
                last[x, u] = discrepancy_of_user(student[u], teachers[x, min(n_stages - 1, stage[x, u] + 1), u])


def rebuild_targets(importances: list[list[Tensor]], stage: np.ndarray, k: int = 100) -> Tensor:
    """[U, k]: rows of the current checkpoints summed over teachers, and a full argsort."""
    n_users, n_items = importances[0][0].shape
    total = torch.zeros(n_users, n_items)
    for x, of_teacher in enumerate(importances):
        for u in range(n_users):
            total[u] += of_teacher[stage[x, u]][u]
    return total.argsort(dim=1, descending=True)[:, :k]


def interaction_batches(users: Tensor, generator: torch.Generator, size: int = 1024) -> list[Tensor]:
    """The epoch's batches: `size` interactions each, in random order, of which the unique users are trained on.

    Args:
        users: [N] the users of the training interactions
    """
    return [part.unique() for part in users[torch.randperm(len(users), generator=generator)].split(size)]


def student_topk(users: Tensor, items: Tensor, mask: Tensor) -> Tensor:
    """[U, K]: each user's best unobserved items, from the scores of all users."""
    scores = (users @ items.T).masked_fill_(mask == 0, -torch.inf)
    scores[:, 0] = -torch.inf
    return scores.topk(K, dim=1).indices


def fine_loss(scores: Tensor, targets: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
    """[]: the fine-grained loss with a dense 0/1 mask [B, I] of unobserved items, in linear space with a clamp."""
    scores = scores.clamp(-40, 40)
    mass = (scores.exp() * mask).sum(1, keepdim=True)
    loss = _plackett_luce(scores, observed, mass - scores.gather(1, targets[:, :50]).exp().sum(1, keepdim=True))
    for depth in (50, 10):
        head = targets[:, :depth]
        loss = loss + 0.5 * _plackett_luce(scores, head, mass - scores.gather(1, head).exp().sum(1, keepdim=True))
    return loss


def _plackett_luce(scores: Tensor, ranked: Tensor, tail: Tensor) -> Tensor:
    above = scores.gather(1, ranked)
    below = above.exp().flip(1).cumsum(1).flip(1) + tail
    return (below.clamp(min=1e-5).log() - above).sum()
