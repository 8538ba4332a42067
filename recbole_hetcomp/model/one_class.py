"""One small code for several teachers' vectors of an entity, from which each of them is restored.

Source: Deng, Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022,
https://arxiv.org/abs/2201.10703: the bottleneck and the error of restoration, with teachers in the place of feature scales.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity


class Encoder(nn.Module):
    """[n, sum of D_k] -> [n, d]: each teacher's vector is normalised and mapped to `width` numbers, all of them to the code.

    Args:
        sizes: D_k of each teacher
        width: numbers for each teacher, and in the hidden layer
        code: d
    """

    def __init__(self, sizes: Sequence[int], width: int, code: int) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.scales = nn.ModuleList(nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width)) for size in sizes)
        self.code = nn.Sequential(nn.Linear(width * len(sizes), width), nn.GELU(), nn.Linear(width, code))

    def forward(self, rows: Tensor) -> Tensor:
        """[n, d]: the codes of `rows` [n, sum of D_k]."""
        parts = rows.split(self.sizes, 1)
        return self.code(torch.cat([scale(part) for scale, part in zip(self.scales, parts)], 1))


class Decoders(nn.Module):
    """[n, d] -> [n, sum of D_k]: every teacher's vector from the code alone, by a decoder of its own.

    Args:
        sizes: D_k of each teacher
        code: d
        linear: whether each is an affine map, instead of one with a hidden layer of 2 d
    """

    def __init__(self, sizes: Sequence[int], code: int, *, linear: bool) -> None:
        super().__init__()
        self.of_teachers = nn.ModuleList(decoder(code, size, linear=linear) for size in sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """[n, sum of D_k]: what is restored of `codes` [n, d]."""
        return torch.cat([of_teacher(codes) for of_teacher in self.of_teachers], 1)


def encoder(sizes: Sequence[int], width: int, code: int, *, linear: bool) -> nn.Module:
    """An `Encoder`, or an affine map of all vectors together."""
    return nn.Linear(sum(sizes), code) if linear else Encoder(sizes, width, code)


def decoder(code: int, size: int, *, linear: bool) -> nn.Module:
    """One teacher's decoder, [n, d] -> [n, D_k]."""
    if linear:
        return nn.Linear(code, size)
    return nn.Sequential(nn.Linear(code, 2 * code), nn.GELU(), nn.Linear(2 * code, size))


def of_size_one(table: Tensor, known: Tensor) -> Tensor:
    """`table` [n, D] divided by one number, so that the mean square of its `known` [n] rows' lengths is 1; others are 0.

    Row 0, the padding, becomes 0 in any case.
    """
    rows = table.masked_fill(~known[:, None], 0.0)
    rows[0] = 0.0
    mean = rows[1:][known[1:]].square().sum(1).mean().nan_to_num()  # nan where nobody is known
    return rows / mean.sqrt().clamp(min=torch.finfo(rows.dtype).tiny)


def over_known(errors: Tensor, known: Tensor) -> Tensor:
    """[n]: K times the mean of each row of `errors` [n, K] over what is `known` [n, K]; nan where nothing is.

    So a sum over all teachers and one over a few of them have the same scale.
    """
    return errors.where(known, torch.zeros_like(errors)).sum(1) * (errors.size(1) / known.sum(1))


def restoration_errors(given: Tensor, restored: Tensor, sizes: Sequence[int]) -> Tensor:
    """[n, K]: 1 - cos of each teacher's vector in `given` [n, sum of D_k] and what stands for it in `restored`."""
    parts = zip(given.split(list(sizes), 1), restored.split(list(sizes), 1))
    return torch.stack([1 - cosine_similarity(own, back, dim=1) for own, back in parts], 1)


def squared_errors(given: Tensor, restored: Tensor, sizes: Sequence[int]) -> Tensor:
    """[n, K]: the squared distance of each teacher's vector from what stands for it."""
    gaps = (given - restored).square().split(list(sizes), 1)
    return torch.stack([gap.sum(1) for gap in gaps], 1)
