"""RCEKDStudent: rejuvenated cross-entropy; soft labels on the student's own best items, and on a sample that closes the gap.

Source: Zhu and Zhang, 2025, https://arxiv.org/abs/2509.20989 (RCE-KD).
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.knowledge.sampling import draw_without_replacement
from recbole_hetcomp.knowledge.sorted_rows import in_same_row
from recbole_hetcomp.losses.soft_targets import soft_label_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher

USERS_PER_BLOCK = 2**14  # users whose sets are made at once
COUNT_CAP = 50  # teacher's items below a rank that are counted at most


class RCEKDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of (1 - omega) L_S + omega L_T, two cross-entropies of soft labels.

    L_S is over Q, the student's first `n_ranked` items: there cross-entropy bounds NDCG, for no item outside scores higher.
    L_T is over V: `n_sampled` items A, drawn from the student's first `sample_depth` where they stand above many of the
    teacher's list T, and what of T is in neither A nor Q. omega = exp(-overlap_weight |T and A| / |T|): the more of the
    teacher's items the student ranks high, the less V counts. All sets are made anew every epoch; T holds unobserved items
    alone, as everything that is learnt here, while the authors' code leaves the training items in it.
    """

    needs = Needs(trajectories=True, scores=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.items = self.soft = self.omega = torch.zeros(0)  # [U, 2 K + L] int64: Q, then V; their scores t / tau; [U]
        if config["sample_depth"] < max(config["n_ranked"], config["n_sampled"]):
            raise UserError(f"sample_depth: {config['sample_depth']} is below n_ranked or n_sampled; raise it")

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's scores, and lists T of `n_ranked` items."""
        config = self.config
        self.teacher = SingleTeacher.from_config(teachers, self.history, config)
        self.lists = self.target_lists(teachers, config["n_ranked"])

    def on_epoch_start(self, epoch: int) -> None:
        """Makes anew, from the student's ranking of now: Q, V, the soft labels of both, and omega."""
        config = self.config
        ranked, lists = self.ranking(config["sample_depth"]).long(), self.current_lists.on_cpu.long()
        first = ranked[:, : config["n_ranked"]]
        parts = []
        for own, listed in zip(ranked.split(USERS_PER_BLOCK), lists.split(USERS_PER_BLOCK)):
            weights = sampling_log_weights(own, listed, config["sampling_temperature"])
            places = draw_without_replacement(weights, config["n_sampled"], self.generator)
            drawn, of_own = own.gather(1, places), own[:, : config["n_ranked"]]
            parts.append((union_of_samples(drawn, listed, of_own), overlap_weights(drawn, listed, config["overlap_weight"])))
        union, omega = (torch.cat(tensors) for tensors in zip(*parts))
        items = torch.cat([first, union], 1).masked_fill(self.teacher.without_list[:, None], 0)  # equal labels say nothing
        self.soft = (self.teacher.standardised_of(items) / config["temperature"]).to(self.device)
        self.items, self.omega = items.to(self.device), omega.to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of (1 - omega) L_S + omega L_T."""
        items, soft, omega = self.items[batch.users], self.soft[batch.users], self.omega[batch.users]
        scores = self.pair_scores(batch.users, items) / self.config["temperature"]
        sizes = [self.config["n_ranked"], items.size(1) - self.config["n_ranked"]]
        parts = zip(scores.split(sizes, 1), soft.split(sizes, 1), (items > 0).split(sizes, 1))
        of_student, of_teacher = (soft_label_loss(*part) for part in parts)
        return ((1 - omega) * of_student + omega * of_teacher).mean()


def sampling_log_weights(ranked: Tensor, lists: Tensor, temperature: float) -> Tensor:
    """[B, m] float32: (c_r + 1) / temperature, c_r = min(50, items of the teacher's list at the student's rank r or below).

    Args:
        ranked: [B, m] int64, the student's ranking, best first, 0 = none, which gets -inf
        lists: [B, K] int64, the teacher's list, 0 = padding; what is not in `ranked` is below all of it
        temperature: of the draw
    """
    known = (in_same_row(ranked, lists) & (ranked > 0)).long()
    above = known.cumsum(1) - known
    below = ((lists > 0).sum(1, keepdim=True) - above).clamp(max=COUNT_CAP)
    return ((below + 1) / temperature).masked_fill(ranked == 0, -torch.inf)


def union_of_samples(drawn: Tensor, lists: Tensor, first: Tensor) -> Tensor:
    """[B, L + K] int64: V = A and (T without A and Q), each item once, 0 = no item.

    Args:
        drawn: [B, L] int64, A
        lists: [B, K] int64, T
        first: [B, K] int64, Q
    """
    return torch.cat([drawn, lists.masked_fill(in_same_row(lists, torch.cat([drawn, first], 1)), 0)], 1)


def overlap_weights(drawn: Tensor, lists: Tensor, strength: float) -> Tensor:
    """[B] float32 in [exp(-strength), 1]: omega = exp(-strength * |T and A| / |T|).

    Args:
        drawn: [B, L] int64, A, each item once
        lists: [B, K] int64, T, 0 = padding
        strength: the paper's beta
    """
    present = lists > 0
    shared = (in_same_row(lists, drawn) & present).sum(1)
    return (-strength * shared / present.sum(1).clamp(min=1)).exp()
