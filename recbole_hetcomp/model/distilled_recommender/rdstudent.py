"""RDStudent: ranking distillation; the first items of the teacher's list as further positives, each with a weight.

Source: Tang and Wang, "Ranking Distillation: Learning Compact Ranking Models With High Performance for Recommender System",
KDD 2018, https://arxiv.org/abs/1809.07428.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from torch import Tensor
from torch.nn.functional import normalize, softplus

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.knowledge.sampling import draw_outside
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool

USERS_PER_BLOCK = 2**14  # users whose unobserved items are drawn at once


class RDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of sum over r of w_r * -log sigmoid(s of the list's item r).

    The weights are those of the positions; from epoch `discrepancy_start` on times those of the discrepancy, by which an
    item counts the more, the further below its place in the list the student ranks it. The student's rank is estimated from
    `n_unobserved` items, drawn anew each epoch.
    """

    needs = Needs(trajectories=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.unobserved: Tensor | None = None  # [U, n_unobserved] int64; None while positions alone count

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes lists of `n_distilled` items."""
        self.lists = self.target_lists(teachers, self.config["n_distilled"])

    def on_epoch_start(self, epoch: int) -> None:
        """From epoch `discrepancy_start` on, draws anew the items by which the student's ranks are estimated."""
        if epoch < self.config["discrepancy_start"]:
            return
        drawn = torch.zeros(self.history.n_users, self.config["n_unobserved"], dtype=torch.int64)
        for users in self.history.active_users.split(USERS_PER_BLOCK):
            drawn[users] = draw_outside(self.history.padded(users), drawn.size(1), self.n_items, self.generator)
        self.unobserved = drawn.to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of sum over r of w_r * -log sigmoid(s of the list's item r)."""
        listed = self.current_lists.targets[batch.users].long()
        weights = position_weights(listed > 0, self.config["position_temperature"])
        if self.unobserved is None:
            scores = self.pair_scores(batch.users, listed)
        else:
            others = self.unobserved[batch.users]
            both = self.pair_scores(batch.users, torch.cat([listed, others], 1))
            scores, below = both.split([listed.size(1), others.size(1)], 1)
            ranks = estimated_ranks(scores.detach(), below.detach(), others > 0, self.n_items - 1)
            weights = weights * discrepancy_weights(ranks, self.config["discrepancy_sharpness"])
            if self.config["renormalise"]:
                weights = normalize(weights, p=1.0, dim=1)
        return (weights * softplus(-scores)).sum(1).mean()


def position_weights(present: Tensor, temperature: float) -> Tensor:
    """[B, K] float32: w_r = exp(-r / temperature) over their sum, of the items that are `present` [B, K] bool; else 0."""
    ranks = torch.arange(present.size(1), device=present.device)
    weights = (-ranks / temperature).exp() * present
    return normalize(weights, p=1.0, dim=1)


def estimated_ranks(scores: Tensor, sample: Tensor, present: Tensor, n_items: int) -> Tensor:
    """[B, K]: the student's rank of each item, from 0: floor((n_items - 1) * the part of the sample that scores higher).

    Args:
        scores: [B, K] float, of the items
        sample: [B, S] float, of drawn items
        present: [B, S] bool, False = nothing drawn
        n_items: of the catalogue, without the padding item
    """
    ascending = sample.masked_fill(~present, -torch.inf).sort(dim=1).values  # absent ones are never higher
    higher = sample.size(1) - torch.searchsorted(ascending, scores.contiguous(), right=True)
    return torch.div((n_items - 1) * higher, present.sum(1, keepdim=True).clamp(min=1), rounding_mode="floor")


def discrepancy_weights(ranks: Tensor, sharpness: float) -> Tensor:
    """[B, K] float32 in [0, 1): max(tanh(sharpness * (the student's rank - the teacher's)), 0).

    Args:
        ranks: [B, K] the student's, from 0; the teacher's is the column
        sharpness: the paper's mu
    """
    behind = ranks - torch.arange(ranks.size(1), device=ranks.device)
    return (sharpness * behind).tanh().clamp(min=0.0)
