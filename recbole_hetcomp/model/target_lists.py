"""The list that each user learns from the teachers: the ensemble's, at the checkpoints that the curriculum has reached.

Without a curriculum it is the final ensemble's, and with a single teacher that teacher's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from logging import getLogger
from typing import Any

import torch
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge import Curriculum, discrepancy
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.pool import TeacherPool

RANKED = 50  # items of the student that a method sees after a validation
LOOKED_AT = 400  # users, or rows, whose lists are ranked for the log: a mean over them is exact to a few hundredths


class TargetLists:
    """Every user's current list.

    Args:
        pool: the teachers
        config: settings of the importance, of the discrepancy and of the curriculum
        k: length of the lists
        n_items: of the catalogue, padding included
        follow: whether a curriculum leads through the checkpoints; otherwise the last ones count from the start

    Attributes:
        targets: [U, k] int32 on the student's device, best first, 0 = none left
        on_cpu: the same lists on the CPU, from which items are drawn. They change in place; on another device `targets`
            is put in anew
        final: [U, discrepancy_k] int32, the final ensemble's, on the CPU
    """

    def __init__(self, pool: TeacherPool, config: Config, k: int, n_items: int, *, follow: bool) -> None:
        self.ensemble = Ensemble.from_config(pool, config)
        self.device, self.relevance = config["device"], config["discrepancy"]
        self.patient = bool(config["patience_from_switch"])
        self.curriculum = Curriculum(
            len(pool),
            pool.n_users,
            pool.n_stages if follow else 1,
            alpha=config["curriculum_alpha"],
            decay=config["curriculum_decay"],
            period=period_of(config),
            rule=config["curriculum_rule"] if follow else "official",
            max_dwell=config["curriculum_max_dwell"],
            k=config["discrepancy_k"],
            temperature=config["importance_temperature"],
            relevance=config["discrepancy"],
        )
        if k >= n_items:
            getLogger().warning(
                f"lists of {k} items are asked for, and there are {n_items - 1}: nothing is left for them to stand above; "
                "ask for fewer (n_targets, list_depth)"
            )
        self.final = self.ensemble.topk(config["discrepancy_k"], self._stages(last=True))
        self.on_cpu = self.ensemble.topk(k, self._stages())
        self.targets = self.on_cpu.to(self.device)

    def advance(self, student_topk: Tensor, epoch: int) -> None:
        """One DKC check where one is due, and new lists for the users who moved.

        Args:
            student_topk: [U, RANKED] the student's best items outside the training items
            epoch: epochs trained
        """
        if self.may_move(epoch):
            teacher_topk = self.ensemble.items[..., : self.curriculum.k]
            moves = self.curriculum.advance(student_topk.to(self.device), teacher_topk, epoch)
            moved = moves.any(0).nonzero().squeeze(1)
            if len(moved):
                self.on_cpu[moved] = self.ensemble.topk(self.on_cpu.size(1), self._stages()[:, moved], moved)
                self.targets = self.on_cpu.to(self.device)

    def may_move(self, epoch: int) -> bool:
        """Whether a check of the curriculum is due after `epoch`."""
        return self.curriculum.due(epoch) and not self.curriculum.finished

    def of_teachers(self, k: int) -> Tensor:
        """[X, U, k'] int32 on the CPU: each teacher's own list, k' <= k, at the checkpoint that counts for each user."""
        stages = self._stages()
        teachers, users = torch.arange(stages.size(0))[:, None], torch.arange(stages.size(1))
        return self.ensemble.items[..., :k][teachers, stages, users]

    @property
    def may_stop_early(self) -> bool:
        """Whether early stopping may count."""
        return self.curriculum.finished or not self.patient

    def state_line(self, student_topk: Tensor, users: Tensor) -> str:
        """For the log: the mean stage, and how far the student is from the final ensemble over the ranked of `users`."""
        depth, users = self.final.size(1), users[student_topk[users].any(1)]
        distance = discrepancy(student_topk[users], self.final[users], k=depth, relevance=self.relevance).mean()
        last = self.curriculum.n_stages - 1
        stage = f"stage {self.curriculum.mean_stage:.2f}/{last}, " if last else ""  # without a curriculum there is one
        return f"{stage}D@{depth} {distance:.2f}"

    def state_dict(self) -> dict[str, Any]:
        """All that changes during training."""
        return self.curriculum.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.curriculum.load_state_dict(state)
        self.on_cpu = self.ensemble.topk(self.on_cpu.size(1), self._stages())
        self.targets = self.on_cpu.to(self.device)

    def _stages(self, last: bool = False) -> Tensor:
        """[X, U] the checkpoint of each teacher for each user, on the CPU."""
        stage = self.curriculum.stage.long()
        static = self.curriculum.n_stages == 1
        return torch.full_like(stage, self.ensemble.items.size(1) - 1) if last or static else stage


def looked_at(history: History) -> Tensor:
    """[n] users with training items, from all along their ids, all of them or LOOKED_AT."""
    active = history.active_users
    n = min(LOOKED_AT, len(active))
    return active[torch.arange(n) * (len(active) - 1) // max(n - 1, 1)]


def period_of(config: Config) -> int:
    """Epochs between two checks of the curriculum: unless it is given, the first multiple of `eval_step` from 10 on."""
    step = max(config["eval_step"], 1)
    return config["curriculum_period"] or math.ceil(10 / step) * step


def check_target_lists(config: Config, *, follow: bool) -> None:
    """Raise a UserError for settings of the lists that do not go together."""
    if config["discrepancy_k"] > RANKED:
        raise UserError(
            f"discrepancy_k: {config['discrepancy_k']} is more than the {RANKED} items that are looked at; lower it"
        )
    if follow and (config["eval_step"] < 1 or period_of(config) % config["eval_step"]):
        raise UserError(
            f"curriculum_period: {period_of(config)} is no multiple of eval_step ({config['eval_step']}); "
            "the curriculum moves after a validation, so make it one"
        )
