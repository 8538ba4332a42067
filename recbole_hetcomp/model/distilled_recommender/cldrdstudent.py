"""CLDRDStudent: a curriculum over how much of the teacher's order is learnt, from the first few items to the whole list.

Source: Zeng, Zamani, Vinay, "Curriculum Learning for Dense Retrieval Distillation", SIGIR 2022,
https://arxiv.org/abs/2204.13679; for lists of recommendations with the loss of the list-wise methods here, as Kang et al.,
WWW 2023, compare with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.knowledge import discrepancy
from recbole_hetcomp.losses import plackett_luce_loss, unordered_loss
from recbole_hetcomp.losses.exponential import log_sum_exp
from recbole_hetcomp.losses.plackett_luce import log_floor
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool


class CLDRDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of `coarse_to_fine_loss` with the first `ordered[stage]` items in their order.

    The stage rises every `stage_epochs` epochs (fixed), or after a validation at which the student has come nearer to its
    lists by less than `stage_gain` (plateau); a method is not told the validation metric.
    """

    needs = Needs(trajectories=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.ordered = checked_sizes(config["ordered"])
        self.stage, self.nearest = 0, float("inf")  # the least discrepancy that a validation of this stage has seen

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes lists as long as the last stage has them in order, `ordered[-1]` items."""
        self.lists = self.target_lists(teachers, self.ordered[-1])

    def on_epoch_start(self, epoch: int) -> None:
        """Sets the stage by the epoch, where `stage_rule` is fixed."""
        if self.config["stage_rule"] == "fixed":
            self.stage = min(epoch // self.config["stage_epochs"], len(self.ordered) - 1)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of `coarse_to_fine_loss`, with as many items in order as the stage says."""
        targets = self.current_lists.targets[batch.users]
        history = self.history.padded(batch.users)
        catalogue = self.catalogue(batch.users)
        scores, present = catalogue.listed(targets)
        tail = catalogue.log_mass(torch.cat([history, targets], 1))
        return coarse_to_fine_loss(scores, tail, present, self.ordered[self.stage]).mean()

    def ranks_everyone(self, epoch: int) -> bool:
        """Also for stages that go on at a plateau, until the last."""
        waits = self.config["stage_rule"] == "plateau" and self.stage < len(self.ordered) - 1
        return waits or super().ranks_everyone(epoch)

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """Goes on to the next stage at a plateau; adds to the log how many items were learnt in order until now."""
        line = super().on_validation(student_topk, epoch)
        trained_at = self.stage
        if self.config["stage_rule"] == "plateau":
            self._advance(student_topk)
        return f"{line}, first {self.ordered[trained_at]} of {self.ordered[-1]} in order"

    def _advance(self, student_topk: Tensor) -> None:
        """The next stage, where the student has come no nearer to its lists."""
        users, lists = self.history.active_users, self.current_lists.on_cpu
        distance = float(discrepancy(student_topk[users], lists[users], k=lists.size(1), relevance="graded").mean())
        stalled = distance > self.nearest - self.config["stage_gain"]
        if stalled and self.stage < len(self.ordered) - 1:
            self.stage, self.nearest = self.stage + 1, float("inf")
        else:
            self.nearest = min(self.nearest, distance)

    @property
    def may_stop_early(self) -> bool:
        """False before the last stage too, where `patience_from_switch` is set."""
        last = self.stage == len(self.ordered) - 1
        return super().may_stop_early and (last or not self.config["patience_from_switch"])

    def distillation_state(self) -> dict[str, Any]:
        """Beside the curriculum of the lists: the stage, and the least discrepancy that it has seen."""
        return {**super().distillation_state(), "stage": self.stage, "nearest": self.nearest}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to that stage, and to the least discrepancy that it had seen."""
        super().load_distillation_state(state)
        if not 0 <= state["stage"] < len(self.ordered):
            raise ValueError(f"the state has stage {state['stage']!r:.20} of {len(self.ordered)}")
        self.stage, self.nearest = int(state["stage"]), float(state["nearest"])


def coarse_to_fine_loss(scores: Tensor, tail: Tensor, present: Tensor, n_ordered: int) -> Tensor:
    """The first items in their order above all else, the others of the list, in no order, above the tail.

    PL(s_1 .. s_n; log(e^tail + sum over i > n of e^s_i)) + sum over i > n of log(1 + e^(tail - s_i)). With n of the whole
    list it is Plackett-Luce.

    Args:
        scores: [B, K] float, best item first
        tail: [B], log-mass of the items below the list; -inf = none
        present: [B, K] bool, False = padding
        n_ordered: n, items whose order counts

    Returns:
        [B], natural log, >= 0
    """
    if n_ordered >= scores.size(1):
        return plackett_luce_loss(scores, tail, present)
    sizes = [n_ordered, scores.size(1) - n_ordered]
    (first, others), (has_first, has_others) = scores.split(sizes, 1), present.split(sizes, 1)
    floor = log_floor(scores)  # finite, so that no gradient is NaN
    below = torch.logaddexp(tail.clamp(min=floor), log_sum_exp(others.masked_fill(~has_others, floor)))
    return plackett_luce_loss(first, below, has_first) + unordered_loss(others, tail, has_others)


def checked_sizes(sizes: Sequence[int]) -> list[int]:
    """The sizes of the stages; raises a UserError unless they are whole numbers of at least 1, each above the last."""
    whole = isinstance(sizes, (list, tuple)) and len(sizes) > 0 and all(type(size) is int and size > 0 for size in sizes)
    if not whole or any(later <= earlier for earlier, later in zip(sizes, sizes[1:])):
        raise UserError(f"ordered: {sizes!r} must be a list of whole numbers, each above the one before")
    return list(sizes)
