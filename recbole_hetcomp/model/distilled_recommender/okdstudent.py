"""OKDStudent: online distillation; small modules in the teacher are trained, too, and bring it nearer to the student.

Source: Rao, Liu, Lin, Ding, Li, Tao, "Exploring and Enhancing the Transfer of Distribution in Knowledge Distillation for
Autoregressive Language Models", 2024, https://arxiv.org/abs/2409.12512. The modules and their loss are ours: adapters of low
rank, as those of Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.losses.divergence import divergence, kullback_leibler, log_probabilities
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.candidates import candidates
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.ranking import top_unobserved
from recbole_hetcomp.teachers.single import SingleTeacher


class Step(NamedTuple):
    """What a step of the student leaves to the adapters: users [B], their candidates [B, n], the student's log p [B, n]."""

    users: Tensor
    items: Tensor
    student: Tensor


class OKDStudent(EmbeddingStudent):
    """L = L_base + weight * mean over users of Div(p'_T, p_S), and apart CE(y, p'_T) + mu KL(p_S, p'_T) + rho KL(p_T, p'_T).

    Three softmaxes over fresh candidates: p_T of the teacher's vectors t, which stay as they are; p'_T of t + B A t, with
    adapters A, B of low rank for users and for items; p_S of the student. y is a training item. At the start B is 0 and p'_T
    is p_T. The adapters stay right on y, move toward what the student can represent, and do not leave the teacher.
    """

    needs = Needs(trajectories=True, scores=True)
    trains_apart = True

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.on_policy = config["okd_candidates"] == "on_policy"
        self.step: Step | None = None
        if self.on_policy and self.follows_curriculum:
            raise UserError("okd_candidates: on_policy learns no list of the teachers; set curriculum: False, or off_policy")

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes vectors and lists of `list_depth` items."""
        super().learn_from(teachers)
        self.lists = self.target_lists(teachers, self.config["list_depth"])
        teacher = SingleTeacher.from_config(teachers, self.history, self.config)
        self.deviations, self.without_list = teacher.deviations.to(self.device), teacher.without_list

    def apart_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """An adapter for the users and one for the items; none of rank 0, with which the teacher stays as it is."""
        rank = self.config["module_rank"]
        return {name: Adapter(target, rank) for name in ("user", "item") if rank}

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of the divergence of the student from the adapted teacher."""
        users, items = batch.users, to_device(self.candidates(batch.on_cpu.users), self.device)
        student = self.of_student(users, items)
        self.step = Step(users, items, student.detach())
        adapted = self.of_teacher(users, items, adapted=True).detach()
        return divergence(adapted, student, items > 0, self.config["divergence"]).mean()

    def loss_apart(self, interaction: Interaction) -> Tensor:
        """[]: the adapters' loss over the users and candidates of the student's step, a mean over the users."""
        assert self.step is not None, "the student's step comes first"
        users, items, student = self.step
        adapted = self.of_teacher(users, items, adapted=True)
        frozen, present = self.of_teacher(users, items, adapted=False), items > 0
        loss = -adapted[:, 0]
        loss = loss + self.config["student_weight"] * kullback_leibler(student, adapted, present)
        return (loss + self.config["teacher_weight"] * kullback_leibler(frozen, adapted, present)).mean()

    def candidates(self, users: Tensor) -> Tensor:
        """[B, 1 + n_top + n_random] int64, 0 = none left: a training item, items of a list, and others.

        Of `users` [B], both on the CPU; none of those of whom the teachers say nothing. The list is the teachers', or what
        the student itself would recommend now.
        """
        config, lists = self.config, self.current_lists.on_cpu
        if self.on_policy:
            depth, block = config["list_depth"], config["max_block_mb"]
            lists = top_unobserved(self.asked, self.history, depth, users=users, max_block_mb=block)
        sizes = {"n_top": config["n_top"], "n_random": config["n_random"], "temperature": config["sampling_temperature"]}
        drawn = candidates(self.history, lists, users, self.generator, **sizes)
        return drawn.masked_fill(self.without_list[users, None], 0)  # equal soft labels would level the student's order

    def of_student(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] the student's log-probabilities of `items` [B, n], 0 = no item, with gradients."""
        return log_probabilities(self.pair_scores(users, items) / self.config["score_temperature"], items > 0)

    def of_teacher(self, users: Tensor, items: Tensor, *, adapted: bool) -> Tensor:
        """[B, n] the teacher's log-probabilities of `items` [B, n], as its adapters make it, with gradients, or its own."""
        of_users, of_items = self.teacher["user"][users], self.teacher["item"][items]
        if adapted and "user" in self.apart:
            of_users, of_items = self.apart["user"](of_users), self.apart["item"](of_items)
        scores = (of_users[:, None] * of_items).sum(2) / self.deviations[users, None]
        return log_probabilities(scores / self.config["score_temperature"], items > 0)


class Adapter(nn.Module):
    """[..., D] -> [..., D]: t + B A t, t itself at the start.

    Args:
        width: D
        rank: rows of A, columns of B
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """The rows, moved."""
        moved: Tensor = rows + self.up(self.down(rows))
        return moved
