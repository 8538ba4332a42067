"""The ensemble of a pool's lists: importances of all checkpoints, merged for whatever checkpoints a user has reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from logging import getLogger

import torch
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge import ensemble_topk, observed_ranking, power_importance, rank_importance
from recbole_hetcomp.teachers.pool import TeacherPool

USERS_PER_BLOCK = 2**14  # users whose lists are merged at once


def _rank_consistency(ranks: Tensor, rank_std: Tensor, config: Config) -> Tensor:
    constants = (config["importance_temperature"], config["consistency_temperature"], config["importance_cutoff"])
    return rank_importance(
        ranks, rank_std, temperature=constants[0], consistency_temperature=constants[1], cutoff=constants[2]
    )


def _rank_only(ranks: Tensor, rank_std: Tensor, config: Config) -> Tensor:
    return rank_importance(ranks, temperature=config["importance_temperature"], cutoff=config["importance_cutoff"])


def _power(ranks: Tensor, rank_std: Tensor, config: Config) -> Tensor:
    return power_importance(ranks, exponent=config["importance_exponent"], cutoff=config["importance_cutoff"])


# (0-based ranks, their deviations, settings) -> importance, by the name of the setting `importance`
IMPORTANCES: dict[str, Callable[[Tensor, Tensor, Config], Tensor]] = {
    "rank_consistency": _rank_consistency,
    "rank_only": _rank_only,
    "power": _power,
}


class Ensemble:
    """The lists of a pool and what each listed item is worth.

    Args:
        pool: the teachers
        importance: (ranks, rank_std) -> importance, all of one shape
        depth: items a list that are looked at; those beyond count for nothing
        weighting: a teacher's importances are multiplied by `teacher_weights` with this exponent; 0 is the plain sum
        larger_is_better: of the validation scores; RecBole's `valid_metric_bigger`
        device: where the lists are merged; they lie on the CPU, and on another device only those of a block of users
    """

    def __init__(
        self,
        pool: TeacherPool,
        importance: Callable[[Tensor, Tensor], Tensor],
        depth: int,
        weighting: float = 0.0,
        device: torch.device | str = "cpu",
        *,
        larger_is_better: bool = True,
    ) -> None:
        self.pool, self.device = pool, device
        self.weights = teacher_weights(pool, weighting, larger_is_better=larger_is_better)
        self.importance, self.depth = importance, depth

    @classmethod
    def from_config(cls, pool: TeacherPool, config: Config, max_depth: int | None = None) -> Ensemble:
        """The ensemble that `config` asks for; the lists are read up to the importance's cut-off, or to `max_depth`."""
        of_rank = IMPORTANCES[config["importance"]]
        depth = max_depth or config["importance_cutoff"]
        return cls(
            pool,
            lambda ranks, rank_std: of_rank(ranks, rank_std, config),
            depth,
            config["teacher_weighting"],
            config["device"],
            larger_is_better=config["valid_metric_bigger"],
        )

    @property
    def items(self) -> Tensor:
        """[X, E, U, L] int32, 0 = no item."""
        return self._lists[0]

    @property
    def rank_std(self) -> Tensor:
        """[X, E, U, L] float16: how far the items' ranks deviate."""
        return self._lists[1]

    @cached_property
    def _lists(self) -> tuple[Tensor, Tensor]:
        return self.pool.lists(self.depth)

    def candidates(self, stage: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """(items [X, B, L], importance [X, B, L] or [X, 1, L]) at the checkpoints `stage` [X, B] for `users` [B]."""
        teachers = torch.arange(len(self.items))[:, None]
        items = self.items[teachers, stage.cpu().long(), users]
        rank_std = self.rank_std[teachers, stage.cpu().long(), users]
        # One row of ranks for all users: vectorised exp and pow differ in the last bit by an element's place in memory,
        # and equal ranks have to weigh the same to the bit, or ties would not go to the smaller id.
        return items, self.importance_of(rank_std)

    def importance_of(self, rank_std: Tensor) -> Tensor:
        """[X, B, L] or [X, 1, L]: what the places of lists are worth; their ranks deviate by `rank_std` [X, B, L]."""
        return self.importance(torch.arange(rank_std.size(-1)), rank_std) * self.weights[:, None, None]

    def topk(self, k: int, stage: Tensor, users: Tensor | None = None) -> Tensor:
        """[B, k] int32 on the CPU, best first: the items whose importances sum up highest, 0 = none left.

        Args:
            k: length of the lists
            stage: [X, B] the checkpoint of each teacher for each user
            users: [B]; None means all
        """
        users = torch.arange(self.pool.n_users) if users is None else users.cpu()
        lists = torch.zeros(len(users), k, dtype=torch.int32)
        for start in range(0, len(users), USERS_PER_BLOCK):
            block = slice(start, start + USERS_PER_BLOCK)
            items, importance = self.candidates(stage[:, block], users[block])
            merged, _ = ensemble_topk(items.to(self.device), importance.to(self.device), k)
            lists[block, : merged.size(1)] = merged.int()
        return lists

    def observed(self, k: int, history: History, temperature: float = 10.0) -> Tensor:
        """[U, k] int32: the users' training items as the final teachers rank them among themselves.

        Where no teacher has an opinion (all are files with lists), the more popular items come first.
        """
        ranked = self.pool.observed()
        if not ranked.any():
            getLogger().info("no teacher ranks the training items: the more popular ones stand for the better ones")
            ranked = _by_popularity(history, k)[None]
        return observed_ranking(ranked, k, temperature=temperature).int()


def teacher_weights(pool: TeacherPool, exponent: float, *, larger_is_better: bool = True) -> Tensor:
    """[X] float32: (final validation score / the best) ** exponent; of a score that is the better the smaller it is, such as
    LogLoss, (the best / score) ** exponent. Teachers without a score, such as files, count as the best: 1.
    """
    scores = torch.stack([teacher.trajectory.valid_scores[-1] for teacher in pool.teachers])
    known = scores.isfinite() & (scores > 0)
    if not known.any():
        return torch.ones_like(scores)
    shares = scores / scores[known].max() if larger_is_better else scores[known].min() / scores
    return torch.where(known, shares, torch.ones_like(scores)) ** exponent


def _by_popularity(history: History, k: int) -> Tensor:
    """[U, k] int32: each user's most popular training items."""
    ranked = torch.zeros(history.n_users, k, dtype=torch.int32)
    for users in history.active_users.split(USERS_PER_BLOCK):
        items = history.padded(users)
        order = history.popularity[items].masked_fill(items == 0, -1).argsort(dim=1, descending=True, stable=True)
        block = items.gather(1, order)[:, :k]
        ranked[users, : block.size(1)] = block.int()
    return ranked
