"""The users and items that a distillation loss is taken over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from recbole_hetcomp.transfer import sent


@dataclass(frozen=True, eq=False)
class Batch:
    """What a distillation loss is taken over.

    Attributes:
        users: [B] int64, each once
        items: [N] int64, each once, the items of the batch's interactions; None for a batch of users
        on_host: the same ids on the CPU, where what is random is drawn, so that nobody waits for the student's device
    """

    users: Tensor
    items: Tensor | None
    on_host: Batch = field(default=None, repr=False)  # type: ignore[assignment]  # the batch itself where it is on the CPU

    def __post_init__(self) -> None:
        if self.on_host is None:
            there = self.users.device.type == "cpu"
            items = None if self.items is None else self.items.cpu()
            object.__setattr__(self, "on_host", self if there else Batch(self.users.cpu(), items))

    def to(self, device: Any) -> Batch:
        """This batch on `device`."""
        host = self.on_host
        return Batch(sent(host.users, device), None if host.items is None else sent(host.items, device), host)
