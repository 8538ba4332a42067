"""IRRRDStudent: relaxed ranking distillation from both sides; each user's items, and each item's users, in their order.

Source: Kang, Hwang, Kweon, Yu, "Item-side Ranking Regularized Distillation for Recommender System", Information Sciences
580, 2021, https://doi.org/10.1016/j.ins.2021.08.060.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_uninteresting, some_of
from recbole_hetcomp.losses import plackett_luce_loss, relaxed_ranking_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.item_lists import by_item, top_users
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


class IRRRDStudent(DistilledRecommender):
    """L = L_base + weight * (L_RRD + item_weight * mean over items of PL(scores of drawn top users; log-mass of others)).

    The items are those that the batch's users have drawn, `items_per_batch` of them at most. An item's list are the users
    for whom the teacher scores it highest and who do not have it in training; the draws are those of the user side with
    users and items in each other's place. The item lists come from the final teachers, whatever the curriculum does.
    """

    families = ("general",)  # an item's best users would be rows
    needs = Needs(trajectories=True, scores=True)
    user_by_user = False  # a mean over the batch's items as well

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes each user's list of `list_depth` items, and each item's of `item_list_depth` users."""
        self.lists = self.target_lists(teachers, self.config["list_depth"])
        teacher = SingleTeacher.from_config(teachers, self.history, self.config)
        self.item_lists = top_users(teacher, self.history, self.config["item_list_depth"])  # [I, item_list_depth], CPU
        self.item_history = by_item(self.history)
        # drawn each epoch, on the CPU: [U, n_interesting], [U, n_uninteresting] int64, and the same of each item's users
        self.drawn, self.drawn_users = ((torch.zeros(0), torch.zeros(0)) for _ in range(2))

    def on_epoch_start(self, epoch: int) -> None:
        """Draws anew each user's interesting and uninteresting items, and each item's users of both kinds."""
        if self.config["sampled"]:
            lists, users, n_others = self.current_lists.on_cpu, self.history.active_users, self.config["n_uninteresting"]
            drawn = draw_by_rank(lists, self.config["n_interesting"], self.config["sampling_temperature"], self.generator)
            others = draw_uninteresting(lists, users, n_others, self.n_items, self.generator, self.history.contains)
            self.drawn = drawn, others
        temperature, n_others = self.config["item_sampling_temperature"], self.config["n_uninteresting_users"]
        drawn = draw_by_rank(self.item_lists, self.config["n_interesting_users"], temperature, self.generator)
        items = torch.arange(1, self.n_items)
        others = draw_uninteresting(self.item_lists, items, n_others, self.n_users, self.generator, self._not_to_be_drawn)
        self.drawn_users = drawn, others

    def _not_to_be_drawn(self, items: Tensor, users: Tensor) -> Tensor:
        """bool: the users who have the item in training, and those without training."""
        return self.item_history.contains(items, users) | (self.history.counts[users] == 0)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users + `item_weight` * that over at most `items_per_batch` of their drawn items."""
        items = some_of(self.items_of(batch.on_cpu.users), self.config["items_per_batch"], self.generator)
        return self.user_side_loss(batch) + self.config["item_weight"] * self.item_side_loss(items)

    def items_of(self, users: Tensor) -> Tensor:
        """[N] int64, each once: what the user side draws on for `users` [B]; both on the CPU."""
        if self.config["sampled"]:
            items = torch.cat([part[users] for part in self.drawn], 1).unique()
        else:
            items = self.current_lists.on_cpu[users, : self.config["n_interesting"]].unique().long()
        return items[items > 0]

    def user_side_loss(self, batch: Batch) -> Tensor:
        """The mean over the batch's users of RRD's list loss."""
        if self.config["sampled"]:
            ranked, others = (to_device(part[batch.on_cpu.users], self.device) for part in self.drawn)
            scores = self.pair_scores(batch.users, torch.cat([ranked, others], 1))
            return relaxed_ranking_loss(scores, ranked, others).mean()
        ranked = self.current_lists.targets[batch.users, : self.config["n_interesting"]]
        catalogue = self.catalogue(batch.users)
        tail = catalogue.log_mass(torch.cat([self.history.padded(batch.users), ranked], 1))
        return plackett_luce_loss(catalogue.listed(ranked).scores, tail, ranked > 0).mean()

    def item_side_loss(self, items: Tensor) -> Tensor:
        """The mean over `items` [N], on the CPU, of the list loss over their drawn users; 0 where there are none."""
        ranked, others = (part[items] for part in self.drawn_users)
        scores = self.scores_of_users(items, torch.cat([ranked, others], 1))
        losses = relaxed_ranking_loss(scores, *(to_device(ids, self.device) for ids in (ranked, others)))
        return losses.sum() / max(len(items), 1)
