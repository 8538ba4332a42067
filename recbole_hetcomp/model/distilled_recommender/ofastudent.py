"""OFAStudent: one for all; the student's own stages, too, say what heterogeneous teachers would, through temporary branches.

Source: Hao, Guo, Han, Tang, Hu, Wang, Xu, "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge
Distillation", NeurIPS 2023, https://arxiv.org/abs/2310.19444. Items stand for classes, and a few candidates for all of them;
the classes of a branch are the teacher's item vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any, cast

import torch
from recbole.data.dataset import Dataset
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import ROWS_PER_BLOCK
from recbole_hetcomp.losses.ofa import ofa_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.candidate_student import CandidateStudent
from recbole_hetcomp.model.stages import prefixes, stages
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


class OFAStudent(CandidateStudent):
    """L = L_base + weight * mean over users of (O(s / temperature) + branch_weight * sum over stages of O(branch of stage)).

    O(x) = -sum over candidates c of w_c log softmax(x)_c, w_c = p_c^gamma, and (1 + p_c)^gamma - 1 for the candidate that is
    a training item: at gamma = 1 the soft labels' cross-entropy, beyond it that item weighs more. p is the softmax of the
    teacher's scores; of several teachers by `ofa_teachers` that of the mean scores, or each teacher's, O being averaged
    over those that say anything of the user.

    A branch maps a stage of the student into the space of the teacher's item vectors, and the products with those of the
    candidates are its scores; a stage of pairs it maps to the score. Branches and temperature are learned, and not served.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.of_each: list[SingleTeacher] = []  # the teachers one by one, where `ofa_teachers` asks for that
        self.drawn = torch.zeros(0, dtype=torch.int64)  # [U, n] on the CPU: the candidates of the epoch, for these
        self.drawn_soft = torch.zeros(0)  # [M, U, n] their scores of them
        self.heard = torch.zeros(0, dtype=torch.bool)  # [M, U] whether each of them says anything of a user
        self.known: Tensor | None = None  # [M, I] bool, whether each of them has a vector of an item; None = all have

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes vectors, and lists to draw candidates from, and makes a branch for each stage that the student has."""
        super().learn_from(teachers)
        if self.config["ofa_teachers"] == "per_teacher":
            pools = [TeacherPool([teacher]) for teacher in teachers.teachers]
            self.of_each = [SingleTeacher.from_config(pool, self.history, self.config) for pool in pools]
            self.heard = torch.stack([~teacher.without_list for teacher in self.of_each]).to(self.device)
            if any(teacher.covered is not None for teacher in self.of_each):
                everything = torch.ones(self.n_items, dtype=torch.bool)
                known = [everything if one.covered is None else one.covered.item for one in self.of_each]
                self.known = torch.stack(known).to(self.device)

    @property
    def width(self) -> int:
        """The student's size, also of one that has no vectors, such as DL."""
        return int(self.config["embedding_size"])

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """The temperature, and a branch of 2 x `width` hidden units for each stage."""
        users = self.history.active_users[:2].to(self.device)
        with torch.no_grad():
            found = self.stages(users, torch.ones_like(users)[:, None])
        if self.config["ofa_stages"] != "none":
            getLogger().info(f"{type(self.backbone).__name__} as a student has {len(found)} stages for branches")
        branches = [branch(stage.size(-1), 2 * width, target if stage.dim() == 2 else 1) for stage in found]
        return {"temperature": Temperature(), "branches": nn.ModuleList(branches)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The temperature without decay, which would draw it to 1."""
        if "temperature" not in self.auxiliary:
            return []
        return [{"params": list(self.auxiliary["temperature"].parameters()), "weight_decay": 0.0}]

    def stages(self, users: Tensor, items: Tensor) -> list[Tensor]:
        """The student's stages for `users` [B] and `items` [B, n], as `ofa_stages` asks for them."""
        wanted = self.config["ofa_stages"]
        if wanted == "prefix":
            return prefixes(self.embeddings(users)[0])
        return stages(self.backbone, users, items) if wanted == "auto" else []

    def on_epoch_start(self, epoch: int) -> None:
        """Where teachers are asked one by one: draws the epoch's candidates and asks for their scores."""
        if self.of_each:
            active = self.history.active_users
            rows = torch.cat([self.candidates(users) for users in active.split(ROWS_PER_BLOCK)])
            self.drawn = torch.zeros(self.history.n_users, rows.size(1), dtype=torch.int64).index_copy_(0, active, rows)
            soft = torch.stack([teacher.standardised_of(self.drawn) for teacher in self.of_each])
            self.drawn_soft = soft.to(self.device)

    def labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Candidates [B, n] of the batch's users, and the teacher's scores of them: [B, n], or [M, B, n] of several."""
        users = batch.users
        if self.of_each:
            soft = self.drawn_soft[:, users] / self.config["score_temperature"]
            return to_device(self.drawn[batch.on_cpu.users], self.device), soft
        items = to_device(self.candidates(batch.on_cpu.users), self.device)
        return items, self.teacher_scores(users, items)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of O of the student and, with their weight, of its branches."""
        config, users = self.config, batch.users
        items, soft = self.labelled(batch)
        heard = self.heard[:, users] if self.of_each else None
        present = items > 0 if self.known is None else (items > 0) & self.known[:, items]  # [B, n] or [M, B, n]
        settings = soft, present, config["ofa_gamma"], config["ofa_variant"], heard
        total = ofa_loss(self.auxiliary["temperature"](self.pair_scores(users, items)), *settings)
        if config["branch_weight"]:
            for stage, to_scores in zip(self.stages(users, items), self.branches):
                scores = self.of_candidates(to_scores(stage), items)
                total = total + config["branch_weight"] * ofa_loss(scores, *settings)
        return total.mean()

    def of_candidates(self, mapped: Tensor, items: Tensor) -> Tensor:
        """[B, n]: scores of `items` [B, n], from what a branch gives, [B, D] of users or [B, n, 1] of pairs."""
        if mapped.dim() == 3:
            return mapped[..., 0]
        return torch.einsum("bd,bnd->bn", mapped, self.teacher["item"][items])

    @property
    def branches(self) -> nn.ModuleList:
        """One for each stage."""
        return cast(nn.ModuleList, self.auxiliary["branches"])


def branch(width: int, hidden: int, target: int) -> nn.Module:
    """[..., width] -> [..., target]: one hidden layer with GELU."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, target))


class Temperature(nn.Module):
    """Divides by a number above 0 that is learned, 1 at first: a student's scores have no scale of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.zeros(1))

    def forward(self, scores: Tensor) -> Tensor:
        """[...] -> [...]: scores / temperature."""
        return scores * (-self.logarithm).exp()
