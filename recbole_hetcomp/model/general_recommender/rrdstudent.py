"""RRDStudent: relaxed ranking distillation; the teacher's items in their order above everything uninteresting.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_outside
from recbole_hetcomp.losses import plackett_luce_loss
from recbole_hetcomp.model.student import Batch, DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool

USERS_PER_BLOCK = 2**14  # users whose uninteresting items are drawn at once


class RRDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of PL(scores of the drawn interesting items; log-mass of the uninteresting).

    Every epoch `n_interesting` items of a user's list are drawn by exp(-rank / temperature) and kept in the teacher's order,
    and `n_uninteresting` items uniformly from what is neither in the list nor in the training set. With
    `sampled: False` the first `n_interesting` items are taken as they are, above all other unobserved items.
    """

    needs = Needs(trajectories=True)

    def learn_from(self, teachers: TeacherPool) -> None:
        self.lists = self.target_lists(teachers, self.config["list_depth"])
        self.interesting = self.uninteresting = torch.zeros(0)  # [U, n_interesting], [U, n_uninteresting] int64

    def on_epoch_start(self, epoch: int) -> None:
        if not self.config["sampled"]:
            return
        lists = self.current_lists.targets.cpu()
        drawn = draw_by_rank(lists, self.config["n_interesting"], self.config["sampling_temperature"], self.generator)
        others = torch.zeros(len(lists), self.config["n_uninteresting"], dtype=torch.int64)
        for users in self.history.active_users.split(USERS_PER_BLOCK):
            taken = torch.cat([self.history.padded(users), lists[users].long()], 1)
            others[users] = draw_outside(taken, others.size(1), self.n_items, self.generator)
        self.interesting, self.uninteresting = drawn.to(self.device), others.to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        if self.config["sampled"]:
            ranked, others = self.interesting[batch.users], self.uninteresting[batch.users]
            both = self.pair_scores(batch.users, torch.cat([ranked, others], 1))
            scores, below = both.split([ranked.size(1), others.size(1)], 1)
            tail = below.masked_fill(others == 0, -torch.inf).logsumexp(1)
        else:
            ranked = self.current_lists.targets[batch.users, : self.config["n_interesting"]]
            catalogue = self.catalogue(batch.users)
            history = self.history.padded(batch.users).to(ranked.device)
            scores, tail = catalogue.listed(ranked).scores, catalogue.log_mass(torch.cat([history, ranked], 1))
        return plackett_luce_loss(scores, tail, ranked > 0).mean()
