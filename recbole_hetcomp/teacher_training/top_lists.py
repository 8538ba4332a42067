"""The top lists of a snapshot, from the scores of the validation before it as far as that had them."""

from __future__ import annotations

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.teachers.ranking import best_opinions, blocks, top_unobserved


class TopLists:
    """What a model ranks first for each user, or row of a sequential model, at any moment of its training.

    On a large catalogue scoring may take as long as training, and a validation over all items has just scored most users.

    Args:
        model: it is asked for whom no scores are given
        history: of the users, or rows
        depth: items a list
        max_block_mb: bound of the scores that are computed at once
        progress: names a progress bar; None shows none
    """

    def __init__(
        self, model: AbstractRecommender, history: History, depth: int, max_block_mb: float, progress: str | None = None
    ) -> None:
        self.model, self.history, self.depth = model, history, depth
        self.max_block_mb, self.progress = max_block_mb, progress
        self.forget()

    def forget(self) -> None:
        """Whatever was taken is of a model that has been trained since."""
        self.taken: list[tuple[Tensor, Tensor]] = []

    def take(self, users: Tensor, scores: Tensor) -> None:
        """Rank for `users` [B] by `scores` [B, I], in which training items may be -inf.

        Raises:
            FloatingPointError: a score is NaN, outside the training items.
        """
        users = users.cpu()
        active = (self.history.counts[users] > 0).nonzero().squeeze(1)
        for places in blocks(active, self.history.n_items, self.max_block_mb):
            observed = self.history.padded(users[places]).to(scores.device)
            items = best_opinions(scores[places].float(), observed, min(self.depth, self.history.n_items - 1))
            self.taken.append((users[places], items.int().cpu()))

    def __call__(self) -> Tensor:
        """[n_users, depth] int32 on the CPU, as `top_unobserved` gives them, without runs of the lowest score."""
        active = self.history.active_users
        users = torch.cat([users for users, _ in self.taken]) if self.taken else active[:0]
        lists = top_unobserved(
            self.model,
            self.history,
            self.depth,
            users=active[~torch.isin(active, users)],
            max_block_mb=self.max_block_mb,
            progress=self.progress,
            opinions_alone=True,
        )
        for users, items in self.taken:
            lists[users, : items.size(1)] = items
        return lists
