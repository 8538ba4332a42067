"""The few items over which a teacher's and a student's softmax are compared: drawn anew for every batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import draw_by_rank, draw_outside
from recbole_hetcomp.knowledge.sorted_rows import in_same_row


@dataclass(frozen=True)
class Candidates:
    """Draws, for each of some users, a training item, items of a list, and others.

    All draws are the generator's, on the CPU, so that nobody waits for another device.

    Attributes:
        history: the training items
        among: [I] bool on the CPU, the items that may be drawn, never the padding
        positives: those of the training items that may be drawn
        n_top: items from the list, in its order
        n_random: items that are neither in the list nor in the training set
        temperature: ranks over which an item's chance to be drawn from the list falls by a factor e
    """

    history: History
    among: Tensor
    positives: History
    n_top: int
    n_random: int
    temperature: float

    @classmethod
    def of(
        cls, history: History, *, n_top: int, n_random: int, temperature: float, among: Tensor | None = None
    ) -> Candidates:
        """Candidates beside the training items, all of which `among` [I] bool on the CPU; None = all items."""
        if among is None:
            allowed, positives = torch.ones(history.n_items, dtype=torch.bool), history
        else:
            allowed, kept = among.clone(), among[history.items]
            users = history.pairs // history.n_items
            positives = History(users[kept], history.items[kept], history.n_users, history.n_items)
        allowed[0] = False
        return cls(history, allowed, positives, n_top, n_random, temperature)

    def from_lists(self, lists: Tensor, users: Tensor, generator: torch.Generator) -> Tensor:
        """[B, 1 + n_top + n_random] int64 on the CPU, 0 = none left.

        Args:
            lists: [U, k] integer item ids, best first, 0 = no item, on the CPU
            users: [B] int64, on the CPU
            generator: on the CPU
        """
        listed = lists[users].long()
        listed = listed.masked_fill(~self.among[listed], 0)
        positive = self.positives.drawn(users, generator)[:, None]
        top = draw_by_rank(listed, self.n_top, self.temperature, generator)
        return torch.cat([positive, top, self._others(listed, users, generator)], 1)

    def from_ranking(self, ranked: Tensor, users: Tensor, generator: torch.Generator) -> Tensor:
        """[B, 1 + n_top + n_random] int64 on the device of `ranked`, 0 = none left, as are others that `ranked` has.

        Args:
            ranked: [B, k] int64 on any device, the best items that may be drawn outside the user's training items
            users: [B] int64, on the CPU
            generator: on the CPU
        """
        n_ranked = self.among.sum() - self.positives.counts[users]
        places = torch.arange(1, ranked.size(1) + 1).expand(len(users), -1)
        places = places.masked_fill(places > n_ranked[:, None], 0)
        positive = self.positives.drawn(users, generator)[:, None]
        top = draw_by_rank(places, self.n_top, self.temperature, generator)
        others = self._others(users.new_zeros(len(users), 0), users, generator)
        drawn = to_device(torch.cat([positive, top, others], 1), ranked.device)
        positive, top, others = drawn.split([1, top.size(1), self.n_random], 1)
        top = torch.cat([torch.zeros_like(positive), ranked], 1).gather(1, top)
        return torch.cat([positive, top, others.masked_fill(in_same_row(others, ranked), 0)], 1)

    def _others(self, listed: Tensor, users: Tensor, generator: torch.Generator) -> Tensor:
        refused = partial(self._refused, users)
        return draw_outside(listed, self.n_random, self.history.n_items, generator, refused=refused)

    def _refused(self, users: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        """[m] bool: `items` [m] that are no others of `users[rows]` [m]."""
        return self.history.contains(users[rows], items) | ~self.among[items]
