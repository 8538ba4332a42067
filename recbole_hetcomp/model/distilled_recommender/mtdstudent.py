"""MTDStudent: several teachers' lists at once, each with a weight: all the same, learned, or learned for each user.

Source: one of the methods that Kang et al., "Distillation from Heterogeneous Models for Top-K Recommendation", WWW 2023,
https://arxiv.org/abs/2303.01130, compare with. How its weights are learned is not published there; what stands here is ours.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.knowledge.sorted_rows import in_same_row
from recbole_hetcomp.losses import plackett_luce_loss
from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool

USERS_PER_BLOCK = 2**12


class MTDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of sum over m of a_m PL(list of teacher m; tail) - entropy_weight * H(a).

    The tail of a teacher's list is the log-mass of all unobserved items that are not in it. The weights a are 1/M, or a
    softmax of numbers that are learned with the student, of all users together or of each user. The entropy H keeps them
    from the one teacher that is easiest to follow: the best weights are proportional to exp(-PL_m / entropy_weight).
    """

    needs = Needs(trajectories=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.learned_lists = self.members = torch.zeros(0)  # [U, M, K] int32, each teacher's; their `membership`

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes every teacher's list of `n_ranked` items, and makes the numbers behind the weights if they are learned."""
        self.lists = self.target_lists(teachers, self.config["n_ranked"])
        if self.config["list_weights"] != "uniform":
            rows = self.n_users if self.config["list_weights"] == "user" else 1
            start = torch.zeros(rows, len(teachers), device=self.device)
            self.auxiliary["list_weights"] = nn.Embedding.from_pretrained(start, freeze=False)
        self._take_lists()

    def on_epoch_start(self, epoch: int) -> None:
        """Takes the teachers' lists anew where a curriculum may have moved."""
        if self.follows_curriculum:
            self._take_lists()

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of sum over m of a_m PL_m, less entropy_weight * H(a) where a is learned."""
        items = self.learned_lists[batch.users]
        of_all = items.flatten(1)  # [B, M * K], with repeats
        history = self.history.padded(batch.users)
        catalogue = self.catalogue(batch.users)
        least = catalogue.log_mass(torch.cat([history, of_all], 1))
        scores = catalogue.listed(of_all).scores.view(items.shape)
        below = tails(scores, self.members[batch.users], least)
        losses = plackett_luce_loss(scores.flatten(0, 1), below.flatten(), (items > 0).flatten(0, 1)).view(items.shape[:2])
        has_list = (items > 0).any(2)  # [B, M]; a teacher without a list has no loss, and must gain no weight by it
        if self.config["list_weights"] == "uniform":
            return (losses.sum(1) / has_list.sum(1).clamp(min=1)).mean()
        return weighted_loss(losses, self._logits(batch.users), self.config["entropy_weight"], has_list).mean()

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """Lets the curriculum move; adds to the log the mean weight of every teacher, where the weights are learned."""
        line = super().on_validation(student_topk, epoch)
        if self.config["list_weights"] == "uniform":
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

    def _take_lists(self) -> None:
        of_teachers = self.current_lists.of_teachers(self.config["n_ranked"])
        self.learned_lists = of_teachers.transpose(0, 1).contiguous().to(self.device)
        self.members = torch.cat([membership(lists) for lists in self.learned_lists.split(USERS_PER_BLOCK)])


def membership(items: Tensor) -> Tensor:
    """[B, M * K] int64: in which lists an entry's item is, bit m for list m; 0 for padding and for an item met before.

    Args:
        items: [B, M, K] integer item ids, each once in a list, 0 = padding; M <= 62
    """
    every = items.flatten(1)
    held = torch.stack([in_same_row(every, ranked) for ranked in items.unbind(1)], 2)  # [B, M * K, M]
    bits = (held.long() << torch.arange(items.size(1), device=items.device)).sum(2)
    own = torch.arange(items.size(1), device=items.device).repeat_interleave(items.size(2))
    first = (bits & ((1 << own) - 1)) == 0  # in no earlier list
    return bits * (first & (every > 0))


def tails(scores: Tensor, members: Tensor, least: Tensor) -> Tensor:
    """[B, M]: for each list the log-mass of what is below it: `least`, and the items of the other lists that it lacks.

    So one pass over the catalogue serves all lists. log(e^least + sum of e^s_i over the union of the lists without list m).

    Args:
        scores: [B, M, K] float, of the lists' items
        members: [B, M * K] int64, their `membership`
        least: [B], log-mass of what is in no list; -inf = none
    """
    floor = log_floor(least)  # finite, so that no gradient is NaN
    lists = torch.arange(scores.size(1), device=scores.device)[:, None]
    lacking = (members[:, None] > 0) & ((members[:, None] >> lists & 1) == 0)  # [B, M, M * K]
    others = scores.flatten(1).to(least.dtype)[:, None].masked_fill(~lacking, floor)
    return torch.logaddexp(least.clamp(min=floor)[:, None], log_sum_exp(others, 2))


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
