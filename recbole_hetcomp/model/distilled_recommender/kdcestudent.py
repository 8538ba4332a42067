"""KDCEStudent: the teacher's soft labels on a few items, or on its list and everything else, by cross-entropy.

Source: soft labels as in Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531; on a top-K set of recommendations as in Zhu and Zhang, 2025, https://arxiv.org/abs/2509.20989.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from recbole.data.dataset import Dataset
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import users_per_block
from recbole_hetcomp.losses import Catalogue, Dense, Sampled, Vectors, log_mass
from recbole_hetcomp.losses.plackett_luce import log_floor
from recbole_hetcomp.losses.soft_targets import soft_label_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


class KDCEStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of CE(softmax(t / temperature), softmax(s / temperature)), both on a set C.

    C by `guide`: the student's own best items, ranked anew every epoch; the teacher's list; or the whole catalogue but for
    the training items. Of the catalogue the teacher's list stands item by item, and all the rest as one class, whose
    probability is the student's summed over it: a student with the teacher's probabilities has the least loss, and no
    score of the teacher's is kept beyond its list. How much of the teacher's mass the rest has is `rest_mass`.
    """

    needs = Needs(trajectories=True, scores=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.guide, self.temperature = str(config["guide"]), float(config["temperature"])
        self.items = torch.zeros(0, dtype=torch.int32, device=self.device)  # [U, K], C or its listed part
        self.soft = torch.zeros(0)  # [U, K] float32, or [U, K + 1] with the rest: the teacher's scores / temperature
        if self.guide == "student" and self.follows_curriculum:
            raise UserError("guide: 'student' learns no list of the teachers; set curriculum: False, or guide: teacher")

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's scores and, unless the student is the guide, lists of `n_soft_labels` items."""
        config = self.config
        self.teacher = SingleTeacher.from_config(teachers, self.history, config)
        if self.guide != "student":
            self.lists = self.target_lists(teachers, config["n_soft_labels"])

    def on_epoch_start(self, epoch: int) -> None:
        """Makes the soft labels anew where the items have changed: the student's best of now, or the curriculum's lists."""
        of_student = self.guide == "student"
        items = self.ranking(self.config["n_soft_labels"]) if of_student else self.current_lists.on_cpu
        items = items.masked_fill(self.teacher.without_list[:, None], 0)  # equal soft labels would level the student's order
        if torch.equal(items.to(self.device), self.items):
            return
        self.items = items.to(self.device, copy=True)  # lists change in place
        soft = self.teacher.standardised_of(items) / self.temperature
        if self.guide == "catalogue":
            soft = torch.cat([soft, self._rest(soft)[:, None]], 1)
        self.soft = soft.to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of CE(softmax(t / temperature), softmax(s / temperature)) on C."""
        items, soft = self.items[batch.users], self.soft[batch.users]
        if self.guide != "catalogue":
            scores = self.pair_scores(batch.users, items.long()) / self.temperature
            return soft_label_loss(scores, soft, items > 0).mean()
        catalogue = tempered(self.catalogue(batch.users), self.temperature)
        history = self.history.padded(batch.users)
        rest = catalogue.log_mass(torch.cat([history, items], 1))
        scores, present = catalogue.listed(items)
        scores = torch.cat([scores, rest.clamp(min=log_floor(rest))[:, None]], 1)
        return soft_label_loss(scores, soft, pad(present, (0, 1), value=True)).mean()

    def _rest(self, soft: Tensor) -> Tensor:
        """[U] log-mass of the teacher's rest, beside the list's scores `soft` [U, K]."""
        share = self.config["rest_mass"]
        if share is not None:
            listed = soft.masked_fill(self.items.cpu() == 0, -torch.inf).logsumexp(1)
            return listed + (math.log(share / (1 - share)) if share else -torch.inf)
        rest = torch.zeros(len(soft))
        for users in self.history.active_users.split(users_per_block(self.n_items, self.config["max_block_mb"])):
            excluded = torch.cat([self.history.padded(users), self.items[users.to(self.device)].cpu()], 1)
            scores = self.teacher.standardised(users) / self.temperature
            rest[users] = log_mass(scores, excluded.to(scores.device)).cpu()
        return rest


def tempered(catalogue: Catalogue, temperature: float) -> Catalogue:
    """The catalogue of the same scores, divided by `temperature`: s_ui / temperature, still streamed or sampled."""
    if isinstance(catalogue, Vectors):
        return catalogue._replace(users=catalogue.users / temperature)
    if isinstance(catalogue, Sampled):
        score = catalogue.score
        return dataclasses.replace(catalogue, score=lambda items: score(items) / temperature)
    assert isinstance(catalogue, Dense)
    return Dense(catalogue.scores / temperature)
