"""Rows of a table by their ids, with a gradient that is summed fast and, whatever the threads, in the same order.

torch's own gradient of `embedding` is several times slower than `index_add_` on a CPU, and that of an index sums in whatever
order threads come. On the CPU `index_add_` adds in the order of the ids, and in float32 and float64 to the same bits as
`embedding`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding


class Table(nn.Embedding):
    """`nn.Embedding` of `count` rows and `size` columns, looked up by `look_up`."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, size)

    def forward(self, input: Tensor) -> Tensor:
        """[..., size]: the rows of the ids `input` [...] integer."""
        return look_up(self.weight, input)


def look_up(table: Tensor, ids: Tensor) -> Tensor:
    """[..., d]: the rows of `table` [n, d] of `ids` [...] integer; as `torch.nn.functional.embedding`."""
    return _LookUp.apply(table, ids) if table.device.type == "cpu" else embedding(ids, table)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = table.shape
        return embedding(ids, table)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        of_table = gradient.new_zeros(ctx.shape)
        return of_table.index_add_(0, ids.reshape(-1), gradient.reshape(-1, ctx.shape[1])), None
