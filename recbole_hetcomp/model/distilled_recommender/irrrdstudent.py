"""IRRRDStudent: relaxed ranking distillation from both sides; each user's items, and each item's users, in their order.

Source: Kang, Hwang, Kweon, Yu, "Item-side Ranking Regularized Distillation for Recommender System", Information Sciences
580, 2021, https://doi.org/10.1016/j.ins.2021.08.060.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from recbole_hetcomp.data.transfer import sent
from recbole_hetcomp.knowledge.sampling import draw_by_rank, some_of
from recbole_hetcomp.losses.lookup import look_up
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.rrdstudent import RRDStudent, draw_uninteresting, relaxed_ranking_loss
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.item_lists import by_item, top_users
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


def scores_of_users(model: DistilledRecommender, items: Tensor, users: Tensor) -> Tensor:
    """[N, n] the student's scores of `users` [N, n] for `items` [N], both on the CPU, with gradients.

    `pair_scores` from the item side.
    """

    moved = partial(sent, device=model.device)
    pairs, of_pairs = users.reshape(-1), moved(items.repeat_interleave(users.size(1))[:, None])
    distinct, place = pairs.unique(return_inverse=True)  # where a vector is dear, each is made once
    vectors = model.vectors(moved(distinct))
    if vectors is None:
        return model.pair_scores(moved(pairs), of_pairs).view(users.shape)
    return Vectors(look_up(vectors.users, moved(place)), vectors.items).listed(of_pairs).scores.view(users.shape)


def users_ranking_loss(model: DistilledRecommender, items: Tensor, ranked: Tensor, others: Tensor) -> Tensor:
    """[N]: `relaxed_ranking_loss` for `items` [N] over users, `ranked` [N, n] above `others` [N, m], all ids on the CPU."""
    scores = scores_of_users(model, items, torch.cat([ranked, others], 1))
    return relaxed_ranking_loss(scores, *(sent(ids, model.device) for ids in (ranked, others)))


class IRRRDStudent(RRDStudent):
    """L = L_base + weight * (L_RRD + item_weight * mean over items of PL(scores of drawn top users; log-mass of others)).

    The items are those that the batch's users have drawn, `items_per_batch` of them at most. An item's list are the users
    for whom the teacher scores it highest and who do not have it in training; the draws are those of the user side with
    users and items in each other's place. The item lists come from the final teachers, whatever the curriculum does.
    """

    needs = Needs(trajectories=True, scores=True)
    user_by_user = False  # a mean over the batch's items as well

    def learn_from(self, teachers: TeacherPool) -> None:
        super().learn_from(teachers)
        teacher = SingleTeacher.from_config(teachers, self.history, self.config)
        self.item_lists = top_users(teacher, self.history, self.config["item_list_depth"])  # [I, item_list_depth], CPU
        self.item_history = by_item(self.history)
        # [I, n_interesting_users], [I, n_uninteresting_users] int64, on the CPU
        self.interesting_users = self.uninteresting_users = torch.zeros(0)

    def on_epoch_start(self, epoch: int) -> None:
        super().on_epoch_start(epoch)
        temperature, n_others = self.config["item_sampling_temperature"], self.config["n_uninteresting_users"]
        drawn = draw_by_rank(self.item_lists, self.config["n_interesting_users"], temperature, self.generator)
        items, trained = torch.arange(1, self.n_items), self.history.counts > 0
        others = draw_uninteresting(self.item_lists, self.item_history, items, n_others, self.generator, trained)
        self.interesting_users, self.uninteresting_users = drawn, others

    def distillation_loss(self, batch: Batch) -> Tensor:
        items = some_of(self.items_of(batch.on_host.users), self.config["items_per_batch"], self.generator)
        return super().distillation_loss(batch) + self.config["item_weight"] * self.item_side_loss(items)

    def items_of(self, users: Tensor) -> Tensor:
        """[N] int64, each once: what the user side draws on for `users` [B]; both on the CPU."""
        if self.config["sampled"]:
            items = torch.cat([part[users] for part in self.drawn], 1).unique()
        else:
            items = self.current_lists.on_host[users, : self.config["n_interesting"]].unique().long()
        return items[items > 0]

    def item_side_loss(self, items: Tensor) -> Tensor:
        """The mean over `items` [N], on the CPU, of the list loss over their drawn users; 0 where there are none."""
        losses = users_ranking_loss(self, items, self.interesting_users[items], self.uninteresting_users[items])
        return losses.sum() / max(len(items), 1)
