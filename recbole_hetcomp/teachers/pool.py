"""The teachers as a student sees them: their lists, their scores, their embeddings. Never modules of the student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.teachers.products import Products, products_of, tables_of, vectors_of_rows
from recbole_hetcomp.teachers.ranking import full_scores, scores_of
from recbole_hetcomp.teachers.trajectory import Trajectory


@dataclass(frozen=True)
class Covered:
    """Of whom a teacher knows anything.

    Attributes:
        user: [U] bool on the CPU
        item: [I] likewise
    """

    user: Tensor
    item: Tensor


@dataclass
class Teacher:
    """One teacher.

    Attributes:
        name: as in the `teachers` setting
        trajectory: its lists
        load: builds the trained model, in evaluation mode; None for a teacher that is lists alone
        covered: of whom it knows anything, where that is not everybody
        rows: of a run with sequences, the rows that it is asked for; None: users
    """

    name: str
    trajectory: Trajectory
    load: Callable[[], AbstractRecommender] | None = field(default=None, repr=False)
    covered: Covered | None = field(default=None, repr=False)
    rows: Sequences | None = field(default=None, repr=False)

    @cached_property
    def model(self) -> AbstractRecommender:
        """The trained model, built at first use; `release` lets go of it."""
        if self.load is None:
            raise UserError(
                f"teacher {self.name!r} is lists alone and has no model; drop it or use a method that needs lists"
            )
        return self.load()

    @property
    def by_sequence(self) -> bool:
        """Whether the model is asked by sequences; then its lists are of rows, not of users."""
        return self.rows is not None and self.model.type == ModelType.SEQUENTIAL

    def release(self) -> None:
        """Free the model's memory."""
        for kept in ("model", "_products"):
            self.__dict__.pop(kept, None)

    def topk(self, k: int, stage: int = -1) -> Tensor:
        """[U, k] int32, the best k items at a checkpoint, by default the last."""
        return self.trajectory.topk(k, stage)

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """[B, n_items] the final model's scores for `users` [B], in a run with sequences for rows."""
        return full_scores(self._asked, self._known(users))

    @torch.no_grad()
    def scores_of(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] the final model's scores of `items` [B, n] for `users` [B], in a run with sequences for rows."""
        if self._products is None:
            return scores_of(self._asked, self._known(users), items)
        return self._products.scores(self._known(users), items)

    @cached_property
    @torch.no_grad()
    def _products(self) -> Products | None:
        """What a few items' scores are made of, at the first question: the model is not trained any more."""
        return products_of(self._asked)

    @property
    def _asked(self) -> Any:
        return asked_by(self.model, self.rows) if self.by_sequence else self.model

    def _known(self, rows: Tensor) -> Tensor:
        """[B] `rows` [B] as the model knows them: a general one says the same at all points of a user's sequence."""
        return rows if self.rows is None or self.by_sequence else self.rows.users_of(rows)

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor] | None:
        """(users [U, d], items [I, d]) whose inner products are the model's scores; None where there are none.

        Taken from what graph models keep of an evaluation, or from the embedding tables, of sequential models from what they
        make of each row's sequence, and believed only if their products give the model's own scores.
        """
        own = vectors_of_rows(self._asked) if self.by_sequence else tables_of(self.model)
        if own is None:
            return None
        users, items = own
        if self.rows is None or self.by_sequence:
            return users.clone(), items.clone()
        return users[self.rows.of_user.to(users.device)], items.clone()


@dataclass(frozen=True)
class Needs:
    """What a distillation method asks of its teachers.

    Attributes:
        trajectories: lists at several checkpoints
        scores: scores of arbitrary items, so models, not lists alone
        embeddings: user and item embeddings whose inner products are the scores
    """

    trajectories: bool = False
    scores: bool = False
    embeddings: bool = False


class TeacherPool:
    """Several teachers of the same split.

    Lists by user are read for each row where others are by row: a teacher that knows no sequences says the same at all
    points of a user's.

    Args:
        teachers: at least one; all with lists of the same users, or of the same rows

    Raises:
        UserError: no teacher, teachers of different splits, or of different numbers of checkpoints.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        if not teachers:
            raise UserError("teachers: the list is empty; name at least one model, such as ['LightGCN']")
        self.teachers = [_by_row(teacher) for teacher in teachers]
        teachers = self.teachers
        self.n_stages = max(teacher.trajectory.n_stages for teacher in teachers)
        first = teachers[0].trajectory
        for teacher in teachers:
            trajectory = teacher.trajectory
            same_data = trajectory.dataset_fingerprint == first.dataset_fingerprint
            if trajectory.items.size(1) != first.items.size(1) or not same_data:
                raise UserError(
                    f"teacher {teacher.name!r} was trained on another split or id map than {teachers[0].name!r}; "
                    "train both on the same split"
                )
            if trajectory.n_stages not in (1, self.n_stages):
                raise UserError(
                    f"teacher {teacher.name!r} has {trajectory.n_stages} checkpoints, others have {self.n_stages}; "
                    "give all the same number, or one"
                )

    def __len__(self) -> int:
        return len(self.teachers)

    @property
    def n_users(self) -> int:
        """Rows of every list, the padding user among them."""
        return self.teachers[0].trajectory.items.size(1)

    def refuse_unless(self, needs: Needs, method: str) -> None:
        """Raise a UserError that names the first teacher unable to give what `method` needs."""
        for teacher in self.teachers:
            if needs.scores and teacher.load is None:
                raise UserError(
                    f"{method} needs a teacher's scores, and {teacher.name!r} is lists alone; put a model or a file of "
                    "vectors in its place, or choose HetCompStudent or RRDStudent, which learn from lists"
                )
            if needs.embeddings and teacher.embeddings() is None:
                raise UserError(f"{method} needs embeddings, and teacher {teacher.name!r} has none; choose BPR or LightGCN")

    def topk(self, k: int, stage: int = -1) -> Tensor:
        """[X, U, k'] int32, each teacher's best items at a checkpoint; k' <= k is the longest list there is."""
        return self._padded([teacher.trajectory.items[self._stage(teacher, stage), :, :k] for teacher in self.teachers])

    def lists(self, depth: int) -> tuple[Tensor, Tensor]:
        """(items int32, rank_std float16), both [X, E, U, L'] with L' <= depth: all checkpoints of all teachers.

        A teacher of one checkpoint (EASE, a file) is at every stage the same.
        """
        items, deviations = [], []
        for teacher in self.teachers:
            trajectory = teacher.trajectory
            shape = (self.n_stages, -1, -1)
            items.append(trajectory.items[:, :, :depth].expand(*shape))
            deviations.append(trajectory.rank_std[:, :, :depth].expand(*shape))
        return self._padded(items), self._padded(deviations)

    def observed(self) -> Tensor:
        """[X, U, P] int32, each teacher's order of the users' training items; 0 where it has no opinion."""
        return self._padded([teacher.trajectory.observed for teacher in self.teachers])

    def scores(self, users: Tensor) -> Tensor:
        """[X, B, n_items] each teacher's scores for `users` [B]."""
        return torch.stack([teacher.scores(users) for teacher in self.teachers])

    def embeddings(self) -> list[tuple[Tensor, Tensor] | None]:
        """Each teacher's embeddings, None where it has none."""
        return [teacher.embeddings() for teacher in self.teachers]

    def _stage(self, teacher: Teacher, stage: int) -> int:
        return stage if teacher.trajectory.n_stages == self.n_stages else -1

    @staticmethod
    def _padded(parts: Sequence[Tensor]) -> Tensor:
        width = max(part.size(-1) for part in parts)
        return torch.stack([torch.nn.functional.pad(part, (0, width - part.size(-1))) for part in parts])


def _by_row(teacher: Teacher) -> Teacher:
    """The teacher with a list for each row."""
    rows, given = teacher.rows, teacher.trajectory
    if rows is None or given.items.size(1) != rows.n_people or rows.n_users == rows.n_people:
        return teacher
    lists = {name: getattr(given, name)[:, rows.of_user] for name in ("items", "rank_std")}
    covered = teacher.covered and replace(teacher.covered, user=teacher.covered.user[rows.of_user])
    return replace(teacher, trajectory=replace(given, **lists, observed=given.observed[rows.of_user]), covered=covered)
