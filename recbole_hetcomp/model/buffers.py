"""A model's buffers, such as BatchNorm's running statistics, as they were before it was tried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Inside, `model` may be called in training mode; at the end all its buffers have the values that they had before."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before):
                buffer.copy_(value)
