"""Several teachers as one, for methods that learn from one: its scores, and embeddings whose products are those scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from logging import getLogger

import torch
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.data.history import History, users_per_block
from recbole_hetcomp.knowledge.spectral import spectral_factors
from recbole_hetcomp.teachers.ensemble import teacher_weights
from recbole_hetcomp.teachers.pool import Covered, TeacherPool

CONSTANT = 16  # roundings of the mean: less spread is none


class SingleTeacher:
    """A pool as one teacher.

    What is divided by a temperature are standardised scores: of each teacher, user by user, then averaged with the teachers'
    weights. Teachers' scales have nothing in common, so a temperature means the same for any teacher and any number of them.
    Mean and deviation are those of the items that the user has not in training, since a teacher may score the training
    items far above all others, and these are never recommended. A teacher who scores all of them alike says nothing of the
    user, and the others' weights make up the whole.

    One teacher's scores stay its own in item lists, where their order alone counts, and in vectors. Whoever divides products
    of these vectors by a temperature divides them by the `deviations` as well.

    Args:
        pool: teachers that are models, not lists alone
        history: the training items
        weighting: the exponent of `teacher_weights`
        max_block_mb: MiB of one teacher's scores held at once; some copies of as much are needed beside them
        seed: of the random start of the factors
        larger_is_better: of the validation scores; RecBole's `valid_metric_bigger`
    """

    def __init__(
        self,
        pool: TeacherPool,
        history: History,
        *,
        weighting: float,
        max_block_mb: float,
        seed: int,
        larger_is_better: bool = True,
    ) -> None:
        self.pool, self.history, self.max_block_mb, self.seed = pool, history, max_block_mb, seed
        weights = teacher_weights(pool, weighting, larger_is_better=larger_is_better)
        self.weights = weights / weights.sum()

    @classmethod
    def from_config(cls, pool: TeacherPool, history: History, config: Config) -> SingleTeacher:
        """The pool as one teacher, weighted as `config` asks for."""
        return cls(
            pool,
            history,
            weighting=config["teacher_weighting"],
            max_block_mb=config["max_block_mb"],
            seed=config["seed"],
            larger_is_better=config["valid_metric_bigger"],
        )

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """[B, n_items] float32 of `users` [B]: one teacher's own, of several the `standardised` mean; column 0 is unused."""
        if len(self.pool) > 1:
            return self.standardised(users)
        with torch.random.fork_rng():  # a model that is built at first use draws numbers, in the midst of a training
            return self.pool.teachers[0].scores(users).float()

    @torch.no_grad()
    def standardised(self, users: Tensor) -> Tensor:
        """[B, n_items] float32: the teachers' mean score for `users` [B], each teacher's of mean 0 and deviation 1 over what
        a user has not in training; column 0 means nothing.
        """
        with torch.random.fork_rng():
            rows = [teacher.scores(users).float() for teacher in self.pool.teachers]
            return self._together(rows, self._moments_of(users, rows))

    @torch.no_grad()
    def standardised_of(self, items: Tensor) -> Tensor:
        """[U, n] float32 on the CPU: each user's `items` [U, n] `standardised`, a block of users at a time; 0 for id 0."""
        found = torch.zeros(items.shape)
        with torch.random.fork_rng():
            for users in self._blocks(items.size(0)):
                listed = [teacher.scores_of(users, items[users]).float() for teacher in self.pool.teachers]
                found[users] = self._together(listed, self._moments[:, :, users].to(listed[0].device)).cpu()
        return found.masked_fill(items.cpu() == 0, 0.0)

    def _together(self, scores: Sequence[Tensor], of_users: Sequence[Tensor] | Tensor) -> Tensor:
        """[B, n] float32: the teachers' scores standardised by `moments`, and averaged."""
        total, counted = torch.zeros_like(scores[0]), torch.zeros_like(scores[0][:, :1])
        for weight, of_teacher, (mean, deviation) in zip(self.weights.tolist(), scores, of_users):
            total.addcmul_(of_teacher - mean[:, None], (weight / deviation)[:, None])
            counted += weight * deviation.isfinite()[:, None]
        return total.div_(counted.clamp(min=torch.finfo(counted.dtype).tiny))

    @cached_property
    def _moments(self) -> Tensor:
        """[X, 2, U] float32 on the CPU: the `moments` of each teacher's scores, for when a few items are asked for."""
        found = torch.ones(len(self.pool), 2, self.pool.n_users)
        for users in self._blocks(self.pool.n_users):
            known = users.clamp(min=1)
            rows = (teacher.scores(known).float() for teacher in self.pool.teachers)
            for of_teacher, of_users in zip(found, self._moments_of(known, rows)):
                of_teacher[:, users] = of_users.cpu()
        return found

    def _moments_of(self, users: Tensor, rows: Iterable[Tensor]) -> list[Tensor]:
        """The `moments` of each teacher's `rows` [B, n_items] for `users` [B]."""
        observed = self.history.padded(users.cpu())
        return [moments(row, observed.to(row.device)) for row in rows]

    @cached_property
    def without_list(self) -> Tensor:
        """[U] bool on the CPU: the users for whom no teacher has a list in the end, the padding user among them."""
        return (self.pool.topk(1)[..., 0] == 0).all(0)

    @property
    def covered(self) -> Covered | None:
        """Of whom the `embeddings` are, where that is not everybody; factors of several teachers are of everybody."""
        return self.pool.teachers[0].covered if len(self.pool) == 1 else None

    def embeddings(self, rank: int) -> tuple[Tensor, Tensor]:
        """(users [U, d], items [I, d]) float32: its own, or `rank` spectral factors of its scores; the log says which."""
        if len(self.pool) == 1:
            own = self.pool.teachers[0].embeddings()
            if own is not None:
                getLogger().info(f"{self.pool.teachers[0].name}: its own embeddings of size {own[0].size(1)}")
                return own[0].float(), own[1].float()
        names = ", ".join(teacher.name for teacher in self.pool.teachers)
        why = "no embeddings of its own" if len(self.pool) == 1 else "one teacher together"
        rank = min(rank, self.pool.n_users, self._n_items)
        getLogger().info(f"{names}: {why}; {rank} spectral factors of the scores stand for its vectors")
        device = self.scores(torch.arange(1, 2)).device
        generator = torch.Generator(device).manual_seed(self.seed)
        return spectral_factors(self._rows, self._n_items, rank, generator)

    @cached_property
    def deviations(self) -> Tensor:
        """[U] float32 on the CPU: divided by these, products of the `embeddings` have the scale of `standardised` scores.

        1 for several teachers, whose factors are made of such scores. The user's mean, which no softmax sees, is left in.
        """
        if len(self.pool) > 1:
            return torch.ones(self.pool.n_users)
        with torch.random.fork_rng(), torch.no_grad():
            return self._moments[0, 1]

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


def moments(scores: Tensor, observed: Tensor) -> Tensor:
    """[2, B]: mean and standard deviation of every row of `scores` [B, I], but for column 0 and those in `observed` [B, H].

    `observed` names each item once, and 0 any number of times. Where what is left is constant but for rounding, the
    deviation is inf: whoever divides by it hears nothing of a teacher that says nothing, on the training items either.
    """
    n_left = (scores.size(1) - 1 - (observed > 0).sum(1)).clamp(min=1)
    left = scores.scatter(1, observed, 0.0)  # before any sum: what is left out may be far above all else
    left[:, 0] = 0.0
    mean = left.sum(1) / n_left
    left.sub_(mean[:, None]).scatter_(1, observed, 0.0)
    left[:, 0] = 0.0
    deviation = torch.linalg.vector_norm(left, dim=1) / (n_left - 1).clamp(min=1).sqrt()  # half of the time of std_mean
    without_list = deviation <= CONSTANT * torch.finfo(scores.dtype).eps * mean.abs()
    return torch.stack([mean, deviation.masked_fill(without_list, torch.inf)])
