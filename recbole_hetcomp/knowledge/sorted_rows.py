"""Many short rows of integers, sorted and searched: whether an item is in a user's list."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sorted_rows(keys: Tensor) -> Tensor:
    """int64 [..., n] with every row in ascending order, contiguous.

    On the CPU by numpy, whose sort of integers uses vector instructions: several times faster than torch's there. Who
    needs to know what came from where puts a payload into the low bits.
    """
    if keys.device.type != "cpu":
        return keys.contiguous().sort(dim=-1).values
    return torch.from_numpy(np.sort(keys.contiguous().numpy(), axis=-1))


def in_same_row(items: Tensor, rows: Tensor) -> Tensor:
    """bool [B, n]: whether each of `items` [B, n] is anywhere in the same row of `rows` [B, m], both integer."""
    return in_sorted_row(items, sorted_rows(rows.long()))


def in_sorted_row(items: Tensor, ascending: Tensor) -> Tensor:
    """`in_same_row` of rows that `sorted_rows` has sorted already, as int64."""
    if not ascending.size(1):
        return torch.zeros_like(items, dtype=torch.bool)
    slot = torch.searchsorted(ascending, items.long().contiguous()).clamp_(max=ascending.size(1) - 1)
    return ascending.gather(1, slot) == items
