"""Embeddings for teachers that have none: the leading factors of their score matrix, which is never stored.

Source: randomised truncated SVD with power iterations, Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM
Review 2011. EASE, item-kNN, auto-encoders, NeuMF and ensembles become embedding teachers by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

OVERSAMPLING = 10  # columns beyond the rank, as the source advises


def spectral_factors(
    rows: Callable[[], Iterable[Tensor]],
    n_items: int,
    rank: int,
    generator: torch.Generator,
    power_iterations: int = 2,
) -> tuple[Tensor, Tensor]:
    """(users [U, r], items [n_items, r]) whose products are the best rank-r approximation of a score matrix.

    With Z = P S Q^T truncated at `rank`: users = P S^0.5, items = Q S^0.5. Takes 2 + 2 * `power_iterations` passes over Z.

    Args:
        rows: gives the matrix anew at every call, in blocks [b, n_items] of rows, in order; finite
        n_items: columns of the matrix
        rank: r; at most the smaller side, else that
        generator: of the device of the blocks
        power_iterations: more of them separate nearby singular values better
    """
    n_users = sum(len(block) for block in rows())
    width = min(rank + OVERSAMPLING, n_users, n_items)
    start = torch.randn(n_items, width, generator=generator, device=generator.device, dtype=torch.float64)
    range_basis = _orthonormal(_times(rows, start))  # [U, width]
    for _ in range(power_iterations):
        range_basis = _orthonormal(_times(rows, _orthonormal(_transposed_times(rows, range_basis))))
    small = _transposed_times(rows, range_basis)  # [n_items, width], Z^T P
    right, singular, left = torch.linalg.svd(small, full_matrices=False)
    rank = min(rank, width)
    root = singular[:rank].sqrt()
    users, items = (range_basis @ left[:rank].T) * root, right[:, :rank] * root
    return users.float(), items.float()


def _times(rows: Callable[[], Iterable[Tensor]], right: Tensor) -> Tensor:
    """Z right, [U, w]."""
    return torch.cat([block.double() @ right for block in rows()])


def _transposed_times(rows: Callable[[], Iterable[Tensor]], left: Tensor) -> Tensor:
    """Z^T left, [n_items, w]."""
    total, start = torch.zeros((), dtype=left.dtype, device=left.device), 0
    for block in rows():
        total = total + block.double().T @ left[start : start + len(block)]
        start += len(block)
    return total


def _orthonormal(columns: Tensor) -> Tensor:
    return torch.linalg.qr(columns).Q
