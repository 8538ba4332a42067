"""What an edge of a searched network may compute: convolutions, pools, the values themselves, or nothing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_hetcomp.model.masked_norm import MaskedBatchNorm

POOL = 3  # positions


class Shape(NamedTuple):
    """Of a convolution.

    Attributes:
        kernel: positions that it reads
        dilation: distance from each of these to the next
        looks_back: whether the last of these is the position itself in any case
    """

    kernel: int
    dilation: int = 1
    looks_back: bool = False


CONVOLUTIONS = {
    "conv3": Shape(3),
    "conv5": Shape(5),
    "dilated3": Shape(3, 2),
    "dilated5": Shape(5, 2),
    "causal3": Shape(3, 2, looks_back=True),
    "causal5": Shape(5, 2, looks_back=True),
}
WITHOUT_WEIGHTS = ("max_pool", "avg_pool", "skip", "none")
OPERATIONS = (*CONVOLUTIONS, *WITHOUT_WEIGHTS)
# The authors' constants: ten times the mean of the softmaxed multiplications and parameters.
COSTS = dict.fromkeys(OPERATIONS, 0.4807)
COSTS |= {"max_pool": 0.4808, "avg_pool": 0.4808}
COSTS |= {name: 0.565 if shape.kernel == 3 else 2.127 for name, shape in CONVOLUTIONS.items()}


def searched(kind: str) -> list[str]:
    """The operations among which a search chooses: `all`, or where all are `causal` those that then differ."""
    return [name for name in OPERATIONS if kind == "all" or name not in ("causal3", "causal5")]


def reach(name: str) -> int:
    """The positions before its own that an operation reads where it is causal."""
    shape = CONVOLUTIONS.get(name)
    if shape is not None:
        return (shape.kernel - 1) * shape.dilation
    return POOL - 1 if name.endswith("pool") else 0


class Operation(nn.Module):
    """[B, d, T] -> [B, d, T], 0 at positions that are not valid; convolutions have no bias and a BatchNorm behind them.

    Args:
        name: one of OPERATIONS
        size: d, channels
        causal: whether a position sees none behind it; otherwise it stands in the middle of what is seen
    """

    def __init__(self, name: str, size: int, *, causal: bool) -> None:
        super().__init__()
        self.name, shape, wide = name, CONVOLUTIONS.get(name), reach(name)
        back = causal or (shape is not None and shape.looks_back)
        self.around = (wide, 0) if back else (wide // 2, wide // 2)
        if shape is not None:
            self.convolution = nn.Conv1d(size, size, shape.kernel, dilation=shape.dilation, bias=False)
            self.norm = MaskedBatchNorm(size)

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """Of `values` [B, d, T], which are at least 0, and `valid` [B, 1, T] of 0 and 1."""
        if self.name == "skip":
            return values * valid
        if self.name == "none":
            return torch.zeros_like(values)
        seen = functional.pad(values * valid, self.around)
        if self.name == "max_pool":
            return functional.max_pool1d(seen, POOL, 1) * valid
        if self.name == "avg_pool":
            share = functional.avg_pool1d(functional.pad(valid, self.around), POOL, 1)
            return functional.avg_pool1d(seen, POOL, 1) / share.clamp(min=1 / POOL) * valid
        made: Tensor = self.norm(self.convolution(seen), valid)
        return made
