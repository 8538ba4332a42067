"""Several teachers as one, for methods that learn from one: its scores, and embeddings whose products are those scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from logging import getLogger
from typing import Any

import torch
from torch import Tensor

from recbole_hetcomp.history import users_per_block
from recbole_hetcomp.knowledge.spectral import spectral_factors
from recbole_hetcomp.teachers.ensemble import teacher_weights
from recbole_hetcomp.teachers.pool import TeacherPool


class SingleTeacher:
    """A pool as one teacher.

    One teacher is itself. Of several, a user's scores are standardised over the items, teacher by teacher, and averaged with
    the teachers' weights: their scales have nothing in common. Training items are among these items, so that a teacher which
    scores them far above all others counts less for what is left.

    Args:
        pool: teachers that are models, not lists alone
        weighting: a teacher counts by (its validation score / the best one's) ** weighting
        max_block_mb: MiB of scores held at once
        seed: of the random start of the factors
    """

    def __init__(self, pool: TeacherPool, *, weighting: float, max_block_mb: float, seed: int) -> None:
        self.pool, self.max_block_mb, self.seed = pool, max_block_mb, seed
        weights = teacher_weights(pool, weighting)
        self.weights = weights / weights.sum()

    @classmethod
    def from_config(cls, pool: TeacherPool, config: Any) -> SingleTeacher:
        """The pool as one teacher, weighted as `config` asks for."""
        return cls(pool, weighting=config["teacher_weighting"], max_block_mb=config["max_block_mb"], seed=config["seed"])

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """[B, n_items] float32 for `users` [B]; the padding item's column means nothing."""
        with torch.random.fork_rng():  # a model that is built at first use draws numbers, in the midst of a training
            rows = [teacher.scores(users).float() for teacher in self.pool.teachers]
            return self._together(rows, [moments(row) for row in rows])

    @torch.no_grad()
    def scores_of(self, items: Tensor) -> Tensor:
        """[U, n] float32 on the CPU: the scores of each user's `items` [U, n], a block of users at a time; 0 for id 0."""
        found = torch.zeros(items.shape)
        with torch.random.fork_rng():
            for users in self._blocks(items.size(0)):
                listed = [teacher.scores_of(users, items[users]).float() for teacher in self.pool.teachers]
                found[users] = self._together(listed, self._moments[:, :, users].to(listed[0].device)).cpu()
        return found.masked_fill(items.cpu() == 0, 0.0)

    def _together(self, scores: Sequence[Tensor], of_users: Sequence[Tensor] | Tensor) -> Tensor:
        """[B, n] float32: one teacher's scores as they are; several teachers' standardised by `moments` and averaged."""
        if len(scores) == 1:
            return scores[0]
        return sum(
            weight * (of_teacher - mean[:, None]) / deviation[:, None]
            for weight, of_teacher, (mean, deviation) in zip(self.weights.tolist(), scores, of_users)
        )

    @cached_property
    def _moments(self) -> Tensor:
        """[X, 2, U] float32 on the CPU: the `moments` of each teacher's scores, for when a few items are asked for."""
        found = torch.ones(len(self.pool), 2, self.pool.n_users)
        if len(self.pool) > 1:
            for users in self._blocks(self.pool.n_users):
                for of_teacher, teacher in zip(found, self.pool.teachers):
                    of_teacher[:, users] = moments(teacher.scores(users.clamp(min=1)).float()).cpu()
        return found

    def embeddings(self, rank: int) -> tuple[Tensor, Tensor]:
        """(users [U, d], items [I, d]) float32: its own, or `rank` spectral factors of its scores; the log says which."""
        if len(self.pool) == 1:
            own = self.pool.teachers[0].embeddings()
            if own is not None:
                getLogger().info(f"{self.pool.teachers[0].name}: its own embeddings of size {own[0].size(1)}")
                return own[0].float(), own[1].float()
        names = ", ".join(teacher.name for teacher in self.pool.teachers)
        getLogger().info(
            f"{names}: no embeddings of its own, or several teachers; {rank} spectral factors of the scores stand for them"
        )
        device = self.scores(torch.arange(1, 2)).device
        generator = torch.Generator(device).manual_seed(self.seed)
        return spectral_factors(self._rows, self._n_items, rank, generator)

    def _rows(self) -> Iterator[Tensor]:
        """The score matrix in blocks of rows; the padding user's row and the padding item's column are 0."""
        for users in self._blocks(self.pool.n_users):
            block = self.scores(users.clamp(min=1))
            block[:, 0] = 0.0
            yield block.masked_fill((users == 0)[:, None].to(block.device), 0.0)

    def _blocks(self, n_users: int) -> Iterator[Tensor]:
        yield from torch.arange(n_users).split(users_per_block(self._n_items, self.max_block_mb))

    @cached_property
    def _n_items(self) -> int:
        with torch.random.fork_rng():
            return self.pool.teachers[0].scores(torch.arange(1, 2)).size(1)


def moments(scores: Tensor) -> Tensor:
    """[2, B]: mean and standard deviation of every row of `scores` [B, I], the padding item's column aside."""
    deviation, mean = torch.std_mean(scores[:, 1:], dim=1)
    return torch.stack([mean, deviation.clamp(min=torch.finfo(scores.dtype).tiny)])
