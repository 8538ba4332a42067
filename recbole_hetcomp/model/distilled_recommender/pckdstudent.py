"""PCKDStudent: distillation experts whose projections are held to the student's own order of the items.

Source: Zhu, Zhang, "Preference-Consistent Knowledge Distillation for Recommender System", TKDE 2025,
https://arxiv.org/abs/2311.04549.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import draw_by_rank
from recbole_hetcomp.losses.soft_targets import soft_label_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import Side, squared_distance
from recbole_hetcomp.model.expert_student import ExpertStudent
from recbole_hetcomp.teachers.pool import Needs, TeacherPool


class PCKDStudent(ExpertStudent):
    """L = L_base + weight * (L_DE + consistency_weight * mean over users of C(u)).

    C compares scores before and after projection, s_ui and <f(p_u), g(q_i)>, of a few items of the teacher's list:
    form "list" by the cross-entropy of their softmax, "pair" by - log sigmoid of the product of two items' differences. It
    trains the projectors alone: p and q are constants in it.
    """

    needs = Needs(trajectories=True, scores=True)

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's vectors, and lists of `list_depth` items."""
        super().learn_from(teachers)
        self.require_all_vectors()
        self.lists = self.target_lists(teachers, self.config["list_depth"])

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: L_DE of the batch's users and items + `consistency_weight` * the mean of C(u) over its users."""
        losses = [squared_distance(self.projected(side), side.teacher).mean() for side in self.sides(batch)]
        return torch.stack(losses).sum() + self.config["consistency_weight"] * self.consistency(batch.on_cpu.users).mean()

    def consistency(self, users: Tensor) -> Tensor:
        """[B]: C(u) for `users` [B], on the CPU, over items drawn anew."""
        candidates = self.candidates(users)
        items, places = candidates.unique(return_inverse=True)
        places, present, listed = (to_device(part, self.device) for part in (places, candidates > 0, candidates))
        before = self.pair_scores(to_device(users, self.device), listed).detach()
        of_users, of_items = (self.projected(self._constant(side)) for side in self.sides(Batch(users, items)))
        after = torch.einsum("bd,bnd->bn", of_users, of_items[places])
        if self.config["consistency_form"] == "pair":
            return pair_consistency(before, after, present)
        temperature = self.config["preference_temperature"]
        return soft_label_loss(after / temperature, before / temperature, present)

    def candidates(self, users: Tensor) -> Tensor:
        """[B, n] int64, 0 = none left: items of each user's list, drawn by rank; `users` [B] and they are on the CPU."""
        lists = self.current_lists.on_cpu[users]
        return draw_by_rank(lists, self.config["n_candidates"], self.config["sampling_temperature"], self.generator)

    @staticmethod
    def _constant(side: Side) -> Side:
        return replace(side, student=side.student.detach())


def pair_consistency(before: Tensor, after: Tensor, present: Tensor) -> Tensor:
    """[B]: mean over pairs a < b present of - log sigmoid((after_a - after_b) (before_a - before_b)); 0 without a pair.

    Args:
        before, after: [B, n] scores
        present: [B, n] bool
    """
    gaps = [scores[:, :, None] - scores[:, None, :] for scores in (after, before)]
    counted = (present[:, :, None] & present[:, None, :]).triu(1)
    losses = -logsigmoid(gaps[0] * gaps[1]) * counted
    return losses.sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
