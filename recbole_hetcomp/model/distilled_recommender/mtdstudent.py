"""MTDStudent: several teachers' lists at once, each with a weight: all the same, learned, or learned for each user.

Source: one of the methods that Kang et al., "Distillation from Heterogeneous Models for Top-K Recommendation", WWW 2023,
https://arxiv.org/abs/2303.01130, compare with. How its weights are learned is not published there; what stands here is ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_hetcomp.losses.plackett_luce import log_floor
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.lists_student import ListsStudent, mean_of
from recbole_hetcomp.teachers.pool import Needs, TeacherPool


class MTDStudent(ListsStudent):
    """L = L_base + weight * mean over users of sum over m of a_m PL(list of teacher m; tail) - entropy_weight * H(a).

    The tail of a teacher's list is the log-mass of all unobserved items that are not in it. The weights a are 1/M, or a
    softmax of numbers that are learned with the student, of all users together or of each user. The entropy H keeps them
    from the one teacher that is easiest to follow: the best weights are proportional to exp(-PL_m / entropy_weight).
    """

    needs = Needs(trajectories=True)

    def make_weights(self, teachers: TeacherPool) -> None:
        """Makes the numbers behind the weights if they are learned."""
        if self.config["list_weights"] != "uniform":
            rows = self.history.n_users if self.config["list_weights"] == "user" else 1
            start = torch.zeros(rows, len(teachers), device=self.device)
            self.auxiliary["list_weights"] = nn.Embedding.from_pretrained(start, freeze=False)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of sum over m of a_m PL_m, less entropy_weight * H(a) where a is learned."""
        losses, has_list = self.list_losses(batch.users)
        if "list_weights" not in self.auxiliary:
            return mean_of(losses, has_list).mean()
        return weighted_loss(losses, self._logits(batch.users), self.config["entropy_weight"], has_list).mean()

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """Lets the curriculum move; adds to the log the mean weight of every teacher, where the weights are learned."""
        line = super().on_validation(student_topk, epoch)
        if "list_weights" not in self.auxiliary:
            return line
        users = self.history.active_users.to(self.device)
        has_list = (self.learned_lists[users] > 0).any(2)
        weights = self._logits(users).detach().masked_fill(~has_list, -torch.inf)[has_list.any(1)].softmax(1).mean(0)
        return f"{line}, weights {' '.join(f'{weight:.3f}' for weight in weights.tolist())}"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The lists' weights without decay: a gradient of a user's is so small that the decay would level them."""
        if "list_weights" not in self.auxiliary:
            return []
        return [{"params": list(self.auxiliary["list_weights"].parameters()), "weight_decay": 0.0}]

    def _logits(self, users: Tensor) -> Tensor:
        """[B, M], or [1, M] where all users' are the same."""
        rows = users if self.config["list_weights"] == "user" else users.new_zeros(1)
        return self.auxiliary["list_weights"](rows)


def weighted_loss(losses: Tensor, logits: Tensor, entropy_weight: float, has_list: Tensor) -> Tensor:
    """[B]: sum over m of a_m loss_m + entropy_weight * sum over m of a_m log a_m, a = softmax(logits of those has_list).

    Args:
        losses: [B, M], one for each teacher
        logits: [B, M] or [1, M]
        entropy_weight: how far the weights are kept from a single teacher; 0: not at all
        has_list: [B, M] bool, the teachers who have a list; 0 for a user of whom none has
    """
    log_weights = logits.masked_fill(~has_list, log_floor(logits)).log_softmax(1).masked_fill(~has_list, 0.0)
    return (log_weights.exp() * has_list * (losses + entropy_weight * log_weights)).sum(1)
