"""DCDStudent: dual correction; what the student ranks too low is lifted above what it ranks too high, on both sides.

Source: Lee and Kim, "Dual Correction Strategy for Ranking Distillation in Top-N Recommender System", CIKM 2021,
https://arxiv.org/abs/2109.03459.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import draw_without_replacement, some_of
from recbole_hetcomp.losses import relaxed_ranking_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.item_lists import top_users
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher

PAIRS_AT_ONCE = 2**18  # listed pairs that the student scores at once


def rank_difference(scores: Tensor, present: Tensor) -> Tensor:
    """[B, n] int16: rho(k) - k, by how many places the student ranks entry k of the teacher's list lower than the teacher.

    rho is the place by the student's scores among the same n entries; equal scores keep the teacher's order.

    Args:
        scores: [B, n] the student's, in the teacher's order
        present: [B, n] bool, False = no entry, at the end of a row; its difference is 0
    """
    order = scores.masked_fill(~present, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.size(1), device=scores.device).expand(scores.shape)
    own = torch.empty_like(order).scatter_(1, order, places)
    return (own - places).short()


def error_of(difference: Tensor, sharpness: float) -> Tensor:
    """[B, n] float32: tanh(sharpness * max(difference, 0)); of -difference it is the error of what is ranked too high."""
    return torch.tanh(sharpness * difference.float().clamp(min=0))


def draw_by_error(lists: Tensor, errors: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """[B, min(n, m)] int64: different entries of each list, drawn in proportion to `errors`, in the order of the list.

    Entries without an error are never drawn; where fewer than n have one, 0 stands in the places that are left.

    Args:
        lists: [B, m] integer ids, best first
        errors: [B, m] >= 0
        generator: of the device of both
    """
    columns = draw_without_replacement(errors.log(), min(n, lists.size(1)), generator)
    return lists.gather(1, columns).long().masked_fill(errors.gather(1, columns) == 0, 0)


class DCDStudent(DistilledRecommender):
    """L = L_base + weight * (mean over users of PL(s_A; log-mass of Z) + item_weight * the same over the batch's items).

    In every list A are `n_corrections` entries drawn by how far the student ranks them too low, in the teacher's order, and
    Z as many by how far it ranks them too high; drawn at every step. The student's ranks are those among the listed
    entries, found anew every `error_period` epochs, or when the curriculum has changed a list. An item's list are the users
    for whom the teacher scores it highest and who do not have it in training, whatever the curriculum does.
    """

    families = ("general",)  # an item's best users would be rows
    needs = Needs(trajectories=True, scores=True)
    user_by_user = False  # a mean over the batch's items as well, and what a user learns is drawn for the batch

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes lists of `list_depth` items and, where items learn too, each item's list of `item_list_depth` users."""
        self.lists = self.target_lists(teachers, self.config["list_depth"])
        self.item_lists = torch.zeros(self.n_items, 0, dtype=torch.int32)  # [I, item_list_depth] on the CPU
        if self.config["item_weight"]:
            teacher = SingleTeacher.from_config(teachers, self.history, self.config)
            self.item_lists = top_users(teacher, self.history, self.config["item_list_depth"])
        # of the "users'" [U, k] and the "items'" lists [I, k]; empty = to be found
        self.rank_differences: dict[str, Tensor] = {}

    def on_epoch_start(self, epoch: int) -> None:
        """Finds the student's ranks of the listed entries, every `error_period` epochs or where a list has changed."""
        if epoch % self.config["error_period"] and self.rank_differences:
            return
        was_training = self.training
        self.eval()
        self.rank_differences = {"users": self._rank_differences_of(self.current_lists.on_cpu, self._scores_of_items)}
        if self.config["item_weight"]:
            self.rank_differences["items"] = self._rank_differences_of(self.item_lists, self.scores_of_users)
        self.train(was_training)

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """Lets the curriculum move; where a list has changed, the student's ranks are found anew at the next epoch."""
        before = self.current_lists.on_cpu.clone()
        line = super().on_validation(student_topk, epoch)
        if not torch.equal(before, self.current_lists.on_cpu):
            self.rank_differences = {}
        return line

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users, + `item_weight` * that over its items, of PL(s_A; log-mass of Z)."""
        drawn = self.corrections("users", self.current_lists.on_cpu, batch.on_cpu.users)
        ranked, others = (to_device(part, self.device) for part in drawn)
        scores = self.pair_scores(batch.users, torch.cat([ranked, others], 1))
        of_users = relaxed_ranking_loss(scores, ranked, others).mean()
        if not self.config["item_weight"]:
            return of_users
        items = some_of(self.items_of(batch.on_cpu), self.config["items_per_batch"], self.generator)
        ranked, others = self.corrections("items", self.item_lists, items)
        scores = self.scores_of_users(items, torch.cat([ranked, others], 1))
        of_items = relaxed_ranking_loss(scores, *(to_device(part, self.device) for part in (ranked, others)))
        return of_users + self.config["item_weight"] * of_items.mean()

    def corrections(self, side: str, lists: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(A [B, n], Z [B, n]) int64 for `rows` [B] of `lists`: drawn entries that are ranked too low, and too high.

        All on the CPU.
        """
        listed, difference = lists[rows], self.rank_differences[side][rows]
        sharpness, n = self.config["error_sharpness"], self.config["n_corrections"]
        too_low = draw_by_error(listed, error_of(difference, sharpness), n, self.generator)
        too_high = draw_by_error(listed, error_of(-difference, sharpness), n, self.generator)
        return too_low, too_high

    def items_of(self, batch: Batch) -> Tensor:
        """[N] int64, each once: the positive items of the batch, for a batch of users those of their training."""
        if batch.positives is not None:
            return batch.positives
        items = self.history.padded(batch.users).unique()
        return items[items > 0]

    def distillation_state(self) -> dict[str, Any]:
        """Beside the curriculum of the lists: by how many places the student ranks each entry lower, int16."""
        return {**super().distillation_state(), "rank_differences": self.rank_differences}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Puts the lists back, and the student's ranks among them."""
        super().load_distillation_state(state)
        found, lists = state["rank_differences"], {"users": self.current_lists.on_cpu, "items": self.item_lists}
        expected = {side: lists[side].shape for side in ("users", "items") if side == "users" or self.config["item_weight"]}
        shapes = {side: difference.shape for side, difference in found.items() if difference.dtype == torch.int16}
        if found and shapes != expected:
            raise ValueError(f"the state has rank_differences of {list(found)}, not int16 of the lists' shapes")
        self.rank_differences = {side: difference.cpu() for side, difference in found.items()}

    def _scores_of_items(self, users: Tensor, items: Tensor) -> Tensor:
        return self.pair_scores(users.to(self.device), items.to(self.device))

    @torch.no_grad()
    def _rank_differences_of(self, lists: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """[R, k] int16 on the CPU, for all `lists` [R, k]."""
        rank_differences = torch.zeros(lists.shape, dtype=torch.int16)
        for rows in torch.arange(len(lists)).split(max(1, PAIRS_AT_ONCE // lists.size(1))):
            listed = lists[rows].long()
            rank_differences[rows] = rank_difference(score(rows, listed), (listed > 0).to(self.device)).cpu()
        return rank_differences
