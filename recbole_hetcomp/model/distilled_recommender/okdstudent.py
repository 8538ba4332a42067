"""OKDStudent: online distillation; small modules in the teacher are trained, too, and bring it nearer to the student.

Source: Rao, Liu, Lin, Ding, Li, Tao, "Exploring and Enhancing the Transfer of Distribution in Knowledge Distillation for
Autoregressive Language Models", 2024, https://arxiv.org/abs/2409.12512. The modules and their loss are ours: adapters of low
rank, as those of Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.losses.divergence import divergence, kullback_leibler, log_probabilities
from recbole_hetcomp.losses.lookup import look_up
from recbole_hetcomp.model.backbone import evaluating
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.candidate_student import CandidateStudent
from recbole_hetcomp.teachers.ranking import blocks, largest


class Step(NamedTuple):
    """What a step of the student leaves to the adapters."""

    users: Tensor  # [B]
    items: Tensor  # [B, n] their candidates
    student: Tensor  # [B, n] the student's log-probabilities of these
    frozen: Tensor  # [B, n] the teacher's standardised scores of these


class OKDStudent(CandidateStudent):
    """L = L_base + weight * mean over users of Div(p'_T, p_S), and apart CE(y, p'_T) + mu KL(p_S, p'_T) + rho KL(p_T, p'_T).

    Three softmaxes over fresh candidates: p_T of the teacher's vectors t, which stay as they are; p'_T of t + B A t, with
    adapters A, B of low rank for users and for items; p_S of the student. y is a training item. At the start B is 0 and p'_T
    is p_T. The adapters stay right on y, move toward what the student can represent, and do not leave the teacher.
    """

    trains_apart = True

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.on_policy = config["okd_candidates"] == "on_policy"
        self.step: Step | None = None
        if self.on_policy and self.follows_curriculum:
            raise UserError("okd_candidates: on_policy learns no list of the teachers; set curriculum: False, or off_policy")

    def apart_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """An adapter for the users and one for the items; none of rank 0, with which the teacher stays as it is."""
        rank = self.config["module_rank"]
        return {name: Adapter(target, rank) for name in ("user", "item") if rank}

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of the divergence of the student from the adapted teacher."""
        users, items = batch.users, to_device(self.candidates(batch.on_cpu.users), self.device)
        student, frozen = self.of_student(users, items), self.teacher_scores(users, items)
        self.step = Step(users, items, student.detach(), frozen)
        with torch.no_grad():
            adapted = log_probabilities(self.adapted(users, items, frozen), items > 0)
        return divergence(adapted, student, items > 0, self.config["divergence"]).mean()

    def loss_apart(self, interaction: Interaction) -> Tensor:
        """[]: the adapters' loss over the users and candidates of the student's step, a mean over the users."""
        assert self.step is not None, "the student's step comes first"
        users, items, student, scores = self.step
        present = items > 0
        adapted = log_probabilities(self.adapted(users, items, scores), present)
        frozen = log_probabilities(scores, present)
        loss = -adapted[:, 0]
        loss = loss + self.config["student_weight"] * kullback_leibler(student, adapted, present)
        return (loss + self.config["teacher_weight"] * kullback_leibler(frozen, adapted, present)).mean()

    def candidates(self, users: Tensor) -> Tensor:
        """As every student's of candidates, from the teachers' lists or, on the student's device, from `own_ranking`."""
        if not self.on_policy:
            return super().candidates(users)
        drawn = self.to_draw.from_ranking(self.own_ranking(to_device(users, self.device)), users, self.generator)
        return drawn.masked_fill(to_device(self.without_list[users, None], self.device), 0)

    @torch.no_grad()
    def own_ranking(self, users: Tensor) -> Tensor:
        """[B, k] int64, 0 = none left: what the student would recommend to `users` [B] now, k being `list_depth` at most.

        On the device of `users`, for which nobody waits; scores that are NaN show in the loss.
        """
        depth, found = min(self.config["list_depth"], self.n_items - 1), []
        with evaluating(self.backbone):
            for block in blocks(users, self.n_items, self.config["max_block_mb"]):
                scores = self.scores(block).float().scatter(1, self.history.padded(block), -torch.inf)
                best, items = largest(scores.masked_fill(to_device(~self.to_draw.among, users.device), -torch.inf), depth)
                found.append(items.masked_fill(best == -torch.inf, 0))
        return torch.cat(found) if found else users.new_zeros(0, depth)

    def of_student(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] the student's log-probabilities of `items` [B, n], 0 = no item, with gradients."""
        return log_probabilities(self.pair_scores(users, items) / self.config["score_temperature"], items > 0)

    def of_teacher(self, users: Tensor, items: Tensor, *, adapted: bool) -> Tensor:
        """[B, n] the teacher's log-probabilities of `items` [B, n], as its adapters make it, with gradients, or its own."""
        scores = self.teacher_scores(users, items)
        return log_probabilities(self.adapted(users, items, scores) if adapted else scores, items > 0)

    def adapted(self, users: Tensor, items: Tensor, scores: Tensor) -> Tensor:
        """[B, n] float: what the adapters make of the teacher's `scores` [B, n], with gradients."""
        if not self.adapters:
            return scores
        with torch.autocast(self.device.type, enabled=False):
            return scores + self.soft(users, self.shift(users, items))

    def shift(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] float: t'_u . t'_i - t_u . t_i = (A_u t_u, B_i^T t'_u) . (B_u^T t_i, A_i t_i), products of 2 r numbers.

        So the adapters' cost is that of a narrow table of items; it is made of the items looked up where these are fewer.
        """
        (of_users, of_items), teacher = self.adapters, self.teacher
        vectors = teacher["user"][users]
        left = torch.cat([of_users.down(vectors), of_users(vectors) @ of_items.up.weight], 1)
        narrow = torch.cat([of_users.up.weight, of_items.down.weight.T], 1)  # [D, 2 r]
        few = items.numel() < self.n_items
        right = teacher["item"][items] @ narrow if few else look_up(teacher["item"] @ narrow, items)
        return torch.einsum("br,bnr->bn", left, right)

    @property
    def adapters(self) -> list[Adapter]:
        """Of the users and of the items; none of rank 0."""
        return [cast(Adapter, module) for module in self.apart.values()]


class Adapter(nn.Module):
    """[..., D] -> [..., D]: t + B A t, t itself at the start.

    Args:
        width: D
        rank: rows of A, `down`, and columns of B, `up`
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """The rows, moved."""
        moved: Tensor = rows + self.up(self.down(rows))
        return moved
