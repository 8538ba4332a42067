"""The users and items that a distillation loss is taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recbole_hetcomp.data.transfer import to_device


@dataclass(frozen=True, eq=False)
class Batch:
    """What a distillation loss is taken over.

    Attributes:
        users: [B] int64, each once
        items: [N] int64, each once, the items of the batch's interactions, drawn negatives too; None for a batch of users
        positives: [N'] int64, those of them that are no drawn negatives
        on_cpu: the same ids on the CPU, where what is random is drawn, so that nobody waits for the student's device
    """

    users: Tensor
    items: Tensor | None
    positives: Tensor | None = None
    on_cpu: Batch = field(default=None, repr=False)  # type: ignore[assignment]  # the batch itself where it is on the CPU

    def __post_init__(self) -> None:
        if self.on_cpu is None:
            there = self.users.device.type == "cpu"
            object.__setattr__(self, "on_cpu", self if there else Batch(*self._ids(lambda ids: ids.cpu())))

    def to(self, device: torch.device | str) -> Batch:
        """This batch on `device`."""
        return Batch(*self.on_cpu._ids(lambda ids: to_device(ids, device)), self.on_cpu)

    def _ids(self, move: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`users`, `items` and `positives`, each after a `move`."""
        items, positives = (None if ids is None else move(ids) for ids in (self.items, self.positives))
        return move(self.users), items, positives
