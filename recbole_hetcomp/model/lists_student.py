"""Students that learn each teacher's list by itself: the lists, and one Plackett-Luce loss a teacher from one pass."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.knowledge.sorted_rows import in_same_row
from recbole_hetcomp.losses import plackett_luce_loss
from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool

USERS_PER_BLOCK = 2**12


class ListsStudent(DistilledRecommender):
    """A subclass says in `make_weights` and `distillation_loss` how the teachers' losses become one.

    Attributes:
        learned_lists: [U, M, K] int32, each teacher's list of each user
        members: [U, M * K] int64, their `membership`
    """

    needs = Needs(trajectories=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.learned_lists = self.members = torch.zeros(0)

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes every teacher's list of `n_ranked` items, and makes what weights them."""
        self.lists = self.target_lists(teachers, self.config["n_ranked"])
        self._take_lists()
        self.make_weights(teachers)

    def make_weights(self, teachers: TeacherPool) -> None:
        """Makes what weights the teachers' losses; once, when their lists are there."""

    def on_epoch_start(self, epoch: int) -> None:
        """Takes the teachers' lists anew where a curriculum may have moved."""
        if self.follows_curriculum:
            self._take_lists()

    def list_losses(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """([B, M] PL of each teacher's list for `users` [B]; [B, M] bool, whether it has one). The loss of no list is 0."""
        items = self.learned_lists[users]
        of_all = items.flatten(1)  # [B, M * K], with repeats
        history = self.history.padded(users)
        catalogue = self.catalogue(users)
        least = catalogue.log_mass(torch.cat([history, of_all], 1))
        scores = catalogue.listed(of_all).scores.view(items.shape)
        below = tails(scores, self.members[users], least)
        losses = plackett_luce_loss(scores.flatten(0, 1), below.flatten(), (items > 0).flatten(0, 1)).view(items.shape[:2])
        return losses, (items > 0).any(2)  # a teacher without a list must gain no weight by having no loss

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


def mean_of(losses: Tensor, selected: Tensor) -> Tensor:
    """[B]: the mean of the `losses` [B, M] of those `selected` [B, M] bool; 0 where nobody is."""
    return (losses * selected).sum(1) / selected.sum(1).clamp(min=1)
