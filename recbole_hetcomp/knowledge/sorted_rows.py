"""Sorting many short rows of integers: what merging and comparing lists comes down to."""

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
