"""The users and items that a distillation loss is taken over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a distillation loss is taken over.

    Attributes:
        users: [B] int64, each once
        items: [N] int64, each once, the items of the batch's interactions; None for a batch of users
        on_host: the same ids on the CPU, where what is random is drawn, so that nobody waits for the student's device
    """

    users: Tensor
    items: Tensor | None
    on_host: Batch = field(default=None)  # type: ignore[assignment]  # itself, of a batch that was not moved

    def __post_init__(self) -> None:
        if self.on_host is None:
            object.__setattr__(self, "on_host", self)

    def to(self, device: Any) -> Batch:
        """This batch, which is on the CPU, on `device`."""
        items = None if self.items is None else self.items.to(device, non_blocking=True)
        return Batch(self.users.to(device, non_blocking=True), items, self)
