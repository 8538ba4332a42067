"""RRDStudent: relaxed ranking distillation; the teacher's items in their order above everything uninteresting.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_outside
from recbole_hetcomp.losses import plackett_luce_loss
from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool

ROWS_PER_BLOCK = 2**14  # users whose uninteresting items are drawn at once


def draw_uninteresting(
    lists: Tensor, history: History, rows: Tensor, n: int, generator: torch.Generator, allowed: Tensor | None = None
) -> Tensor:
    """[U, n] int64: for each of `rows` items drawn uniformly from outside its list and its history, 0 in other rows.

    Args:
        lists: [U, k] integer item ids, 0 = no item, on the CPU
        history: the training items of U users
        rows: [B] int64, the users
        n: draws with replacement a user
        generator: on the CPU
        allowed: [I] bool, what may be drawn at all; None = every item
    """
    others = torch.zeros(len(lists), n, dtype=torch.int64)
    for block in rows.split(ROWS_PER_BLOCK):
        refused = partial(_refused, history, block, allowed)
        others[block] = draw_outside(lists[block], n, history.n_items, generator, refused=refused)
    return others


def _refused(history: History, users: Tensor, allowed: Tensor | None, row: Tensor, items: Tensor) -> Tensor:
    observed = history.contains(users[row], items)
    return observed if allowed is None else observed | ~allowed[items]


def relaxed_ranking_loss(scores: Tensor, ranked: Tensor, others: Tensor) -> Tensor:
    """[B]: PL(s_1 .. s_n; log sum over j of exp(s'_j)), the ranked items in their order above all the others.

    Args:
        scores: [B, n + m] of the ranked items, then of the others
        ranked: [B, n] integer ids, best first, 0 = none
        others: [B, m] integer ids, 0 = none
    """
    of_ranked, of_others = scores.split([ranked.size(1), others.size(1)], 1)
    tail = log_sum_exp(of_others.masked_fill(others == 0, -torch.inf))
    return plackett_luce_loss(of_ranked, tail, ranked > 0)


class RRDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of PL(scores of the drawn interesting items; log-mass of the uninteresting).

    Every epoch `n_interesting` items of a user's list are drawn by exp(-rank / temperature) and kept in the teacher's order,
    and `n_uninteresting` items uniformly from what is neither in the list nor in the training set. With
    `sampled: False` the first `n_interesting` items are taken as they are, above all other unobserved items.
    """

    needs = Needs(trajectories=True)

    def learn_from(self, teachers: TeacherPool) -> None:
        self.lists = self.target_lists(teachers, self.config["list_depth"])
        self.drawn = torch.zeros(0), torch.zeros(0)  # [U, n_interesting], [U, n_uninteresting] int64 on the CPU
        self.interesting, self.uninteresting = self.drawn  # the same on the student's device

    def on_epoch_start(self, epoch: int) -> None:
        if not self.config["sampled"]:
            return
        lists = self.current_lists.on_host
        drawn = draw_by_rank(lists, self.config["n_interesting"], self.config["sampling_temperature"], self.generator)
        n_others = self.config["n_uninteresting"]
        others = draw_uninteresting(lists, self.history, self.history.active_users, n_others, self.generator)
        self.drawn = drawn, others
        self.interesting, self.uninteresting = (part.to(self.device) for part in self.drawn)

    def distillation_loss(self, batch: Batch) -> Tensor:
        if self.config["sampled"]:
            ranked, others = self.interesting[batch.users], self.uninteresting[batch.users]
            scores = self.pair_scores(batch.users, torch.cat([ranked, others], 1))
            return relaxed_ranking_loss(scores, ranked, others).mean()
        ranked = self.current_lists.targets[batch.users, : self.config["n_interesting"]]
        catalogue = self.catalogue(batch.users)
        history = self.history.padded(batch.users)
        tail = catalogue.log_mass(torch.cat([history, ranked], 1))
        return plackett_luce_loss(catalogue.listed(ranked).scores, tail, ranked > 0).mean()
