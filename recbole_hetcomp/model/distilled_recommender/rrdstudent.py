"""RRDStudent: relaxed ranking distillation; the teacher's items in their order above everything uninteresting.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_uninteresting
from recbole_hetcomp.losses import plackett_luce_loss, relaxed_ranking_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool


class RRDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of PL(scores of the drawn interesting items; log-mass of the uninteresting).

    Every epoch `n_interesting` items of a user's list are drawn by exp(-rank / temperature) and kept in the teacher's order,
    and `n_uninteresting` items uniformly from what is neither in the list nor in the training set. With
    `sampled: False` the first `n_interesting` items are taken as they are, above all other unobserved items.
    """

    needs = Needs(trajectories=True)

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes lists of `list_depth` items."""
        self.lists = self.target_lists(teachers, self.config["list_depth"])
        self.drawn = torch.zeros(0), torch.zeros(0)  # [U, n_interesting], [U, n_uninteresting] int64 on the CPU
        self.interesting, self.uninteresting = self.drawn  # the same on the student's device

    def on_epoch_start(self, epoch: int) -> None:
        """Draws anew each user's interesting and uninteresting items; nothing with `sampled: False`."""
        if not self.config["sampled"]:
            return
        lists = self.current_lists.on_cpu
        drawn = draw_by_rank(lists, self.config["n_interesting"], self.config["sampling_temperature"], self.generator)
        users, n_others = self.history.active_users, self.config["n_uninteresting"]
        others = draw_uninteresting(lists, users, n_others, self.n_items, self.generator, self.history.contains)
        self.drawn = drawn, others
        self.interesting, self.uninteresting = (part.to(self.device) for part in self.drawn)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of PL(interesting; uninteresting), or unsampled of PL(first; all others)."""
        if self.config["sampled"]:
            ranked, others = self.interesting[batch.users], self.uninteresting[batch.users]
            scores = self.pair_scores(batch.users, torch.cat([ranked, others], 1))
            return relaxed_ranking_loss(scores, ranked, others).mean()
        ranked = self.current_lists.targets[batch.users, : self.config["n_interesting"]]
        catalogue = self.catalogue(batch.users)
        history = self.history.padded(batch.users)
        tail = catalogue.log_mass(torch.cat([history, ranked], 1))
        return plackett_luce_loss(catalogue.listed(ranked).scores, tail, ranked > 0).mean()
