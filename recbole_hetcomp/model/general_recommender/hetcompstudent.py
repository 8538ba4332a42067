"""HetCompStudent: led from easy to hard by the training trajectories of heterogeneous teachers.

Source: Kang, Kweon, Lee, Lian, Xie, Yu, "Distillation from Heterogeneous Models for Top-K Recommendation", WWW 2023,
https://arxiv.org/abs/2303.01130. Dynamic knowledge construction (DKC) lives in `knowledge/`, adaptive knowledge transfer
(AKT) in `losses/`; this file connects the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_hetcomp.errors import UserError
from recbole_hetcomp.knowledge import RELEVANCES, RULES, Curriculum, discrepancy
from recbole_hetcomp.losses import Dense, fine_ranking_loss, overall_ranking_loss
from recbole_hetcomp.losses.ranking import list_sizes
from recbole_hetcomp.model.student import RANKED, Batch, DistilledRecommender
from recbole_hetcomp.teachers.ensemble import IMPORTANCES, Ensemble
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.trajectory import OBSERVED_DEPTH

CURRICULA = (*RULES, "none")
TRANSFERS = ("adaptive", "overall", "fine")
REDUCTIONS = ("mean", "sum")


class HetCompStudent(DistilledRecommender):
    """The student of HetComp.

    Each user learns the ensemble's top list, made of the checkpoint that the curriculum has reached for each teacher.
    While checkpoints move, the loss asks for the overall relations (`overall_ranking_loss`); when all users have reached
    the last one, for the order (`fine_ranking_loss`).
    """

    needs = Needs(trajectories=True)

    def __init__(self, config, dataset: Dataset) -> None:  # type: ignore[no-untyped-def]
        super().__init__(config, dataset)
        _check(config)
        self.ensemble: Ensemble
        self.curriculum: Curriculum
        self.targets = torch.zeros(0)  # [U, K] int32, each user's current list
        self.observed = torch.zeros(0)  # [U, P] int32, the training items to learn, in the teachers' order
        self.final = torch.zeros(0)  # [U, 50] int32, the list of the final ensemble

    def learn_from(self, teachers: TeacherPool) -> None:
        config = self.config
        self.ensemble = Ensemble.from_config(teachers, config)
        static = config["curriculum_rule"] == "none"
        self.curriculum = Curriculum(
            len(teachers),
            self.n_users,
            1 if static else teachers.n_stages,
            alpha=config["curriculum_alpha"],
            decay=config["curriculum_decay"],
            period=config["curriculum_period"],
            rule="official" if static else config["curriculum_rule"],
            max_dwell=config["curriculum_max_dwell"],
            k=config["discrepancy_k"],
            temperature=config["importance_temperature"],
            relevance=config["discrepancy"],
        )
        self.final = self.ensemble.topk(config["discrepancy_k"], self._stages(last=True))
        self.observed = self.ensemble.observed(config["n_observed"], self.history, config["importance_temperature"])
        self.observed = self.observed.to(self.device)
        n_targets = config["n_targets"]
        if n_targets >= self.n_items:
            getLogger().warning(f"n_targets: {n_targets} is more than the {self.n_items - 1} items; lists end with them")
        self.targets = self.ensemble.topk(n_targets, self._stages()).to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        history = self.history.padded(batch.users).to(self.device)
        lists = (self.targets[batch.users], self.observed[batch.users], history)
        clamp = self.config["score_clamp"]
        scores = self.catalogue(batch.users) if clamp is None else Dense(self.scores(batch.users).clamp(-clamp, clamp))
        if self.fine:
            depths, weights = self.config["fine_depths"], self.config["fine_weights"]
            loss = self.config["fine_loss_weight"] * fine_ranking_loss(scores, *lists, depths=depths, weights=weights)
        else:
            loss = self.config["overall_loss_weight"] * overall_ranking_loss(scores, *lists)
        return loss.sum() if self.sums_over_users else loss.mean()

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """One DKC check where one is due, and new targets for the users who moved."""
        if self.curriculum.due(epoch) and not self.curriculum.finished:
            teacher_topk = self.ensemble.items[..., : self.curriculum.k]
            moved = self.curriculum.advance(student_topk, teacher_topk, epoch).any(0).nonzero().squeeze(1)
            if len(moved):
                targets = self.ensemble.topk(self.targets.size(1), self.curriculum.stage[:, moved], moved)
                self.targets[moved.to(self.device)] = targets.to(self.device)
        return self._state_line(student_topk)

    @property
    def fine(self) -> bool:
        """Whether the loss is the fine-grained one."""
        transfer = self.config["transfer"]
        return self.curriculum.finished if transfer == "adaptive" else transfer == "fine"

    @property
    def sums_over_users(self) -> bool:
        return bool(self.config["loss_reduction"] == "sum")

    @property
    def settled(self) -> bool:
        return self.curriculum.finished or not self.config["patience_from_switch"]

    def distillation_state(self) -> dict[str, Any]:
        return {"curriculum": self.curriculum.state_dict()}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        self.curriculum.load_state_dict(state["curriculum"])
        self.targets = self.ensemble.topk(self.targets.size(1), self._stages()).to(self.device)

    def _stages(self, last: bool = False) -> Tensor:
        """[X, U] the checkpoint of each teacher for each user."""
        stage = self.curriculum.stage.long()
        static = self.curriculum.n_stages == 1
        return torch.full_like(stage, self.ensemble.items.size(1) - 1) if last or static else stage

    def _state_line(self, student_topk: Tensor) -> str:
        users = self.history.active_users
        relevance = self.config["discrepancy"]
        distance = discrepancy(student_topk[users], self.final[users], k=self.final.size(1), relevance=relevance).mean()
        stage = f"stage {self.curriculum.mean_stage:.2f}/{self.curriculum.n_stages - 1}"
        return f"{stage}, D@{self.final.size(1)} {distance:.2f}, {'fine-grained' if self.fine else 'overall'} loss"


def _check(config: Any) -> None:
    """Raise a UserError for settings out of range."""
    choices = {
        "curriculum_rule": CURRICULA,
        "transfer": TRANSFERS,
        "loss_reduction": REDUCTIONS,
        "importance": tuple(IMPORTANCES),
        "discrepancy": RELEVANCES,
    }
    for key, allowed in choices.items():
        if config[key] not in allowed:
            raise UserError(f"{key}: {config[key]!r} is none of {', '.join(allowed)}")
    if config["n_observed"] > OBSERVED_DEPTH:
        raise UserError(f"n_observed: {config['n_observed']} is more than the {OBSERVED_DEPTH} that are ranked; lower it")
    if config["discrepancy_k"] > RANKED:
        raise UserError(
            f"discrepancy_k: {config['discrepancy_k']} is more than the {RANKED} items that are looked at; lower it"
        )
    if config["curriculum_rule"] != "none" and (
        config["eval_step"] < 1 or config["curriculum_period"] % config["eval_step"]
    ):
        raise UserError(
            f"curriculum_period: {config['curriculum_period']} is no multiple of eval_step ({config['eval_step']}); "
            "the curriculum moves after a validation, so make it one"
        )
    try:
        list_sizes(config["n_targets"], config["fine_depths"])
    except (ValueError, TypeError) as error:
        raise UserError(f"fine_depths: {config['fine_depths']!r} cannot be used ({error})") from error
    if len(config["fine_depths"]) != len(config["fine_weights"]):
        raise UserError(f"fine_weights: {config['fine_weights']!r} must hold one weight for each of fine_depths")
