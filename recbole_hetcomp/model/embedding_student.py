"""A student that learns from its teachers' vectors: what all such methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.model.backbone import evaluating
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
        self.covered = teacher.covered
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
        with torch.no_grad(), evaluating(self.backbone):
            return self.embeddings(self.history.active_users[:1].to(self.device))[0].size(1)

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """What is trained beside the student, whose vectors have `width` numbers and the teacher's `target`."""
        return {}

    def apart_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """What `loss_apart` trains, for vectors of the same sizes."""
        return {}

    def sides(self, batch: Batch, most: int | None = None) -> list[Side]:
        """The batch's users and items of whom the teacher has vectors, at most `most` of either, drawn at random."""
        entities = {"user": batch.on_cpu.users, "item": self.items_of(batch)}
        if self.covered is not None:
            entities = {name: self._known(given, getattr(self.covered, name)) for name, given in entities.items()}
        if most is not None:
            entities = {name: some_of(given, most, self.generator) for name, given in entities.items()}
        ids = {name: to_device(chosen, self.device) for name, chosen in entities.items()}
        users, items = self.embeddings(ids["user"])
        own = {"user": users, "item": items[ids["item"]]}
        return [Side(name, ids[name], own[name], self.teacher[name][ids[name]]) for name in own]

    def require_all_vectors(self) -> None:
        """Raise a UserError where the teacher has no vector of a user or item of the training set."""
        if self.covered is None:
            return
        known = {"user": self.covered.user[self.history.active_users], "item": self.covered.item[self.history.items]}
        for side, of_side in known.items():
            if not of_side.all():
                raise UserError(
                    f"teachers: {self.config['model']} needs a vector of each {side}, and the teacher lacks some; give "
                    "a file with all of them, or choose FitNetStudent"
                )
        self.covered = None

    def known_to_teacher(self, side: str) -> Tensor:
        """[n] int64 on the student's device: users with training items, or all items, of whom the teacher has a vector."""
        ids = self.history.active_users if side == "user" else torch.arange(1, self.n_items)
        return (ids if self.covered is None else ids[getattr(self.covered, side)[ids]]).to(self.device)

    def own_tables(self, setting: str, wanted: bool | None) -> dict[str, Tensor] | None:
        """The student's vectors [U, d] and [I, d] where they are parameters, which can be written; else None.

        Args:
            setting: by which the user says whether they are to be written
            wanted: what it says; None: where they can be

        Raises:
            UserError: they are to be written, and are computed from other parameters.
        """
        with evaluating(self.backbone):
            tables = dict(zip(("user", "item"), self.embeddings()))
        writable = all(isinstance(table, nn.Parameter) for table in tables.values())
        if wanted and not writable:
            name, value = type(self.backbone).__name__, self.config[setting]
            raise UserError(f"{setting}: {value} writes the student's tables, and {name} has no such; leave it at auto")
        return tables if writable and wanted is not False else None

    def _known(self, ids: Tensor, covered: Tensor) -> Tensor:
        """[m] those of `ids` [n] that are `covered`, all on the CPU; where none of them is, one drawn from all that are."""
        known = ids[covered[ids]]
        return known if len(known) else some_of(covered.nonzero().squeeze(1), 1, self.generator)

    def items_of(self, batch: Batch) -> Tensor:
        """[N] the batch's items, on the CPU; a batch of users comes without, and as many are drawn."""
        if batch.on_cpu.items is not None:
            return batch.on_cpu.items
        return torch.randint(1, self.n_items, (len(batch.users),), generator=self.generator).unique()


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """[n, D], [n, D] -> [n]: |x - y|^2."""
    return (x - y).square().sum(1)
