"""Each user's training items, and how many users' rows of scores fit into memory at once."""

from __future__ import annotations

from functools import cached_property

import torch
from recbole.data.dataset import Dataset
from torch import Tensor


class History:
    """Each user's training items, as compressed rows.

    Args:
        users, items: [N] the pairs of the training set, RecBole's internal ids
        n_users, n_items: counts, the padding id 0 among them
    """

    def __init__(self, users: Tensor, items: Tensor, n_users: int, n_items: int) -> None:
        self.n_users, self.n_items = n_users, n_items
        self.pairs = torch.unique(users.long() * n_items + items.long())  # [N] sorted by user, then item; each pair once
        self.items = self.pairs % n_items  # [N] int64
        self.counts = torch.bincount(self.pairs // n_items, minlength=n_users)  # [n_users] int64
        self.starts = self.counts.cumsum(0) - self.counts
        self._copies: dict[torch.device, tuple[Tensor, ...]] = {}

    @classmethod
    def of(cls, dataset: Dataset) -> History:
        """The history that a RecBole dataset's interactions make up."""
        users, items = (torch.as_tensor(dataset.inter_feat[field]) for field in (dataset.uid_field, dataset.iid_field))
        return cls(users, items, dataset.user_num, dataset.item_num)

    def __deepcopy__(self, memo: object) -> History:
        """Itself, since nothing changes it: RecBole copies a model to count its operations."""
        return self

    def padded(self, users: Tensor) -> Tensor:
        """[B, H] int64: the items of `users` [B], on their device, filled up with 0.

        H is the longest history among them; on other devices than the CPU, where to know it would mean to wait for the
        device, the longest of all: batches there take B x `longest` numbers.
        """
        if users.device.type == "cpu":
            return self._rows(users, int(self.counts[users].max()) if len(users) else 0)
        return self._rows(users, self.longest)

    def _rows(self, users: Tensor, width: int) -> Tensor:
        items, counts, starts = self._on(users.device)
        column = torch.arange(width, device=users.device)
        inside = column < counts[users][:, None]  # [B, H]
        rows = torch.where(inside, starts[users][:, None] + column, torch.zeros_like(column))
        return torch.where(inside, items[rows], torch.zeros_like(rows))

    def drawn(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """[B] int64: one training item of each of `users` [B], any of them alike; 0 for a user who has none."""
        counts = self.counts[users]
        which = (torch.rand(users.shape, generator=generator, dtype=torch.float64) * counts).long()
        return torch.where(counts > 0, self.items[(self.starts[users] + which).clamp(max=len(self.items) - 1)], 0)

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """bool, of the shape that the two broadcast to: whether each item is a training item of its user."""
        pairs = users.long() * self.n_items + items.long()
        slots = torch.searchsorted(self.pairs, pairs).clamp(max=max(len(self.pairs) - 1, 0))
        return self.pairs[slots] == pairs if len(self.pairs) else torch.zeros_like(pairs, dtype=torch.bool)

    @cached_property
    def popularity(self) -> Tensor:
        """[n_items] int64: the users who have each item in training."""
        return torch.bincount(self.items, minlength=self.n_items)

    @cached_property
    def longest(self) -> int:
        """Items of the user who has most."""
        return int(self.counts.max())

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        """(items, counts, starts) on `device`, copied there once."""
        if device.type == "cpu":
            return self.items, self.counts, self.starts
        if device not in self._copies:
            self._copies[device] = tuple(part.to(device) for part in (self.items, self.counts, self.starts))
        return self._copies[device]

    @cached_property
    def active_users(self) -> Tensor:
        """[A] int64: the users who have training items; the others get no loss and no list."""
        return self.counts.nonzero().squeeze(1)


def users_per_block(n_items: int, max_block_mb: float) -> int:
    """How many float32 score rows of `n_items` fit into a block of `max_block_mb` MiB; at least 1."""
    return max(1, int(max_block_mb * 2**20 / (4 * n_items)))
