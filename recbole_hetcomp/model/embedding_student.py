"""A student that learns from its teachers' vectors: what all such methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


@dataclass(frozen=True)
class Side:
    """The users or the items of a batch, in the student and in the teacher.

    Attributes:
        name: user or item
        ids: [n] int64, each once
        student: [n, d] with gradients
        teacher: [n, D] without
    """

    name: str
    ids: Tensor
    student: Tensor
    teacher: Tensor


class EmbeddingStudent(DistilledRecommender):
    """Takes vectors from one teacher, or spectral factors of several; a subclass says what is learnt of them."""

    needs = Needs(scores=True)
    user_by_user = False  # the loss takes items too, which are drawn for the batch

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's vectors, [U, D] and [I, D], and makes the modules that map the student's to them."""
        teacher = SingleTeacher.from_config(teachers, self.history, self.config)
        users, items = teacher.embeddings(self.config["teacher_rank"])
        self.teacher = {"user": users.to(self.device), "item": items.to(self.device)}
        width = self.width
        with torch.random.fork_rng():  # the same modules in every process of a training
            torch.manual_seed(int(self.config["seed"]))
            self.auxiliary.update(self.auxiliary_modules(width, users.size(1)))
            self.apart.update(self.apart_modules(width, users.size(1)))
        self.auxiliary.to(self.device)
        self.apart.to(self.device)

    @property
    def width(self) -> int:
        """Numbers of a vector of the student's."""
        with torch.no_grad():
            return self.embeddings(self.history.active_users[:1].to(self.device))[0].size(1)

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """What is trained beside the student, whose vectors have `width` numbers and the teacher's `target`."""
        return {}

    def apart_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """What `loss_apart` trains, for vectors of the same sizes."""
        return {}

    def sides(self, batch: Batch, most: int | None = None) -> list[Side]:
        """The batch's users and its items; where there are more than `most` of either, as many of them, drawn at random."""
        entities = {"user": batch.on_cpu.users, "item": self.items_of(batch)}
        if most is not None:
            entities = {name: some_of(given, most, self.generator) for name, given in entities.items()}
        ids = {name: to_device(chosen, self.device) for name, chosen in entities.items()}
        users, items = self.embeddings(ids["user"])
        own = {"user": users, "item": items[ids["item"]]}
        return [Side(name, ids[name], own[name], self.teacher[name][ids[name]]) for name in own]

    def items_of(self, batch: Batch) -> Tensor:
        """[N] the batch's items, on the CPU; a batch of users comes without, and as many are drawn."""
        if batch.on_cpu.items is not None:
            return batch.on_cpu.items
        return torch.randint(1, self.n_items, (len(batch.users),), generator=self.generator).unique()


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """[n, D], [n, D] -> [n]: |x - y|^2."""
    return (x - y).square().sum(1)
