"""Multiply-adds of a prediction: counted while the model computes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PRODUCTS = {torch.ops.aten.mul, torch.ops.aten.mul_, torch.ops.aten.div, torch.ops.aten.pow, torch.ops.aten.square}


class MultiplyAdds(TorchDispatchMode):
    """Counts, while it is active, the products of numbers: those within matrix products, and those element by element.

    torch's fused attention hides its matrix products in one operation. It is off meanwhile.

    Attributes:
        count: so far
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._fused = True

    def __enter__(self) -> MultiplyAdds:
        """Counts from here."""
        self._fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        """Ends."""
        super().__exit__(*raised)
        torch.backends.mha.set_fastpath_enabled(self._fused)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Computes as ever, and counts."""
        found = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:  # in floating-point operations, two a multiply-add
            self.count += int(flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=found)) // 2
        elif func._overloadpacket in PRODUCTS and isinstance(found, Tensor) and found.is_floating_point():
            self.count += found.numel()
        return found


@torch.no_grad()
def multiply_adds(model: AbstractRecommender, interaction: Interaction) -> float:
    """Multiply-adds of one prediction: a mean over the rows."""
    model.eval()
    with MultiplyAdds() as counter:
        model.predict(interaction)
    return counter.count / len(interaction)
