"""HetCompStudent: led from easy to hard by the training trajectories of heterogeneous teachers.

Source: Kang, Kweon, Lee, Lian, Xie, Yu, "Distillation from Heterogeneous Models for Top-K Recommendation", WWW 2023,
https://arxiv.org/abs/2303.01130. Dynamic knowledge construction (DKC) lives in `knowledge/`, adaptive knowledge transfer
(AKT) in `losses/`; this file connects the two.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.losses import Dense, fine_ranking_loss, overall_ranking_loss
from recbole_hetcomp.losses.adaptive_transfer import list_sizes
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.trajectory import OBSERVED_DEPTH


class HetCompStudent(DistilledRecommender):
    """The student of HetComp.

    Each user learns the ensemble's top list, made of the checkpoint that the curriculum has reached for each teacher.
    While checkpoints move, the loss asks for the overall relations (`overall_ranking_loss`); when all users have reached
    the last one, for the order (`fine_ranking_loss`).
    """

    needs = Needs(trajectories=True)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        _check(config)
        self.observed = torch.zeros(0)  # [U, P] int32, the training items to learn, in the teachers' order

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes lists of `n_targets` items, and `n_observed` training items a user in the teachers' order.

        Of a point of a sequence these are the items that followed it, in their own order; none of its end.
        """
        config = self.config
        self.lists = self.target_lists(teachers, config["n_targets"])
        n_observed, temperature = config["n_observed"], config["importance_temperature"]
        if isinstance(self.history, Sequences):  # what followed a point is known, and no opinion
            observed = self.history.following(n_observed)
        else:
            observed = self.lists.ensemble.observed(n_observed, self.history, temperature)
        self.observed = observed.to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the fine-grained or the overall loss, as `fine` says, over the batch's users; `loss_reduction` mean or sum."""
        history = self.history.padded(batch.users)
        lists = (self.current_lists.targets[batch.users], self.observed[batch.users], history)
        clamp = self.config["score_clamp"]
        scores = self.catalogue(batch.users) if clamp is None else Dense(self.scores(batch.users).clamp(-clamp, clamp))
        if self.fine:
            depths, weights = self.config["fine_depths"], self.config["fine_weights"]
            loss = self.config["fine_loss_weight"] * fine_ranking_loss(scores, *lists, depths=depths, weights=weights)
        else:
            loss = self.config["overall_loss_weight"] * overall_ranking_loss(scores, *lists)
        return loss.sum() if self.sums_over_users else loss.mean()

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """Lets the curriculum move; adds to the log which of the two losses now holds."""
        return f"{super().on_validation(student_topk, epoch)}, {self.phase} loss"

    @property
    def phase(self) -> str:
        """fine-grained or overall."""
        return "fine-grained" if self.fine else "overall"

    @property
    def fine(self) -> bool:
        """Whether the loss is the fine-grained one."""
        transfer = self.config["transfer"]
        return self.current_lists.curriculum.finished if transfer == "adaptive" else transfer == "fine"

    @property
    def sums_over_users(self) -> bool:
        """Whether `loss_reduction` is sum."""
        return bool(self.config["loss_reduction"] == "sum")


def _check(config: Config) -> None:
    """Raise a UserError for settings out of range."""
    if config["n_observed"] > OBSERVED_DEPTH:
        raise UserError(f"n_observed: {config['n_observed']} is more than the {OBSERVED_DEPTH} that are ranked; lower it")
    try:
        list_sizes(config["n_targets"], config["fine_depths"])
    except (ValueError, TypeError) as error:
        raise UserError(f"fine_depths: {config['fine_depths']!r} cannot be used ({error})") from error
    if len(config["fine_depths"]) != len(config["fine_weights"]):
        raise UserError(f"fine_weights: {config['fine_weights']!r} must hold one weight for each of fine_depths")
