"""CDStudent: collaborative distillation; the teacher's soft labels on unobserved items that are drawn by their rank.

Source: Lee, Choi, Lee, Shim, "Collaborative Distillation for Top-N Recommendation", ICDM 2019,
https://arxiv.org/abs/1911.05276.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.knowledge.sampling import draw_without_replacement
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher

USERS_PER_BLOCK = 2**14  # users whose items are drawn at once


class CDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of sum over the drawn items of BCE(sigmoid(s), q).

    The soft label is q = sigmoid((t + label_shift) / label_temperature). Every epoch `n_drawn` different items of a user are
    drawn by exp(-rank / sampling_temperature) from a ranking of unobserved items: by `guide` the student's own, made anew
    every epoch, or the teacher's list.
    """

    needs = Needs(trajectories=True, scores=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.guide = str(config["guide"])
        self.ranked = torch.zeros(0, dtype=torch.int32)  # [U, list_depth] on the CPU: what is drawn from
        self.soft = torch.zeros(0)  # of that shape: its soft labels
        self.items = self.labels = torch.zeros(0)  # [U, n_drawn] int64 and float32: what is drawn
        if self.guide == "student" and self.follows_curriculum:
            raise UserError("guide: 'student' learns no list of the teachers; set curriculum: False, or guide: teacher")

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's scores and, with `guide: teacher`, lists of `list_depth` items to draw from."""
        self.teacher = SingleTeacher.from_config(teachers, self.history, self.config)
        if self.guide == "teacher":
            self.lists = self.target_lists(teachers, self.config["list_depth"])

    def on_epoch_start(self, epoch: int) -> None:
        """Draws `n_drawn` items a user, with their soft labels, from the student's ranking of now or the teacher's list."""
        config, of_teacher = self.config, self.guide == "teacher"
        ranked = self.current_lists.on_cpu if of_teacher else self.ranking(config["list_depth"])
        ranked = ranked.masked_fill(self.teacher.without_list[:, None], 0)  # equal soft labels would level the order
        if not torch.equal(ranked, self.ranked):
            self.ranked = ranked.clone()  # lists change in place
            self.soft = soft_labels(self.teacher.standardised_of(ranked), config["label_temperature"], config["label_shift"])
        drawn = [
            draw_places(block, config["n_drawn"], config["sampling_temperature"], self.generator)
            for block in self.ranked.split(USERS_PER_BLOCK)
        ]
        places = torch.cat(drawn)
        self.items = self.ranked.gather(1, places).long().to(self.device)
        self.labels = self.soft.gather(1, places).to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of the sum over the drawn items of BCE(sigmoid(s), q)."""
        items = self.items[batch.users]
        return soft_label_loss(self.pair_scores(batch.users, items), self.labels[batch.users], items > 0).mean()


def soft_labels(scores: Tensor, temperature: float, shift: float) -> Tensor:
    """Of the shape of `scores`: the probability q = sigmoid((t + shift) / temperature) that the teacher gives an item."""
    return ((scores + shift) / temperature).sigmoid()


def draw_places(lists: Tensor, n: int, temperature: float, generator: torch.Generator) -> Tensor:
    """[B, n'] int64: n' = min(n, K) different places of each list, drawn by exp(-rank / temperature), ascending.

    Args:
        lists: [B, K] integer item ids, best first, 0 = no item; a list with fewer than n' items gives empty places as well
        n: places to draw
        temperature: ranks over which the weight falls by a factor e
        generator: of the device of `lists`
    """
    log_weights = -torch.arange(lists.size(1), device=lists.device) / temperature
    log_weights = log_weights.expand(lists.shape).masked_fill(lists == 0, -torch.inf)
    return draw_without_replacement(log_weights, min(n, lists.size(1)), generator)


def soft_label_loss(scores: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """[B]: sum over i of -q_i log sigmoid(s_i) - (1 - q_i) log(1 - sigmoid(s_i)).

    Args:
        scores: [B, n] float, the student's
        labels: [B, n] float in [0, 1], the teacher's soft labels
        present: [B, n] bool, False = no item
    """
    terms = binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return terms.masked_fill(~present, 0.0).sum(1)
