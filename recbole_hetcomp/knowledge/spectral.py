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
    power_iterations: int = 3,
) -> tuple[Tensor, Tensor]:
    """(users [U, r], items [n_items, r]) whose products are the best rank-r approximation of a score matrix.

    With Z = P S Q^T truncated at `rank`: users = P S^0.5, items = Q S^0.5. An iteration multiplies by Z^T Z block by block
    and so takes one pass over Z; what is found takes one more.

    Args:
        rows: gives the matrix anew at every call, in blocks [b, n_items] of rows, in order; finite
        n_items: columns of the matrix
        rank: r; at most the smaller side, else that
        generator: of the device of the blocks
        power_iterations: more of them separate nearby singular values better
    """
    width = min(rank + OVERSAMPLING, n_items)
    basis = torch.randn(n_items, width, generator=generator, device=generator.device, dtype=torch.float64)
    for _ in range(power_iterations):
        basis = torch.linalg.qr(_gram_times(rows, basis)).Q  # [n_items, width]
    projected = torch.cat([block.double() @ basis for block in rows()])  # [U, width]
    left, singular, right = torch.linalg.svd(projected, full_matrices=False)
    root = singular[:rank].sqrt()
    users, items = left[:, :rank] * root, basis @ right[:rank].T * root
    return users.float(), items.float()


def _gram_times(rows: Callable[[], Iterable[Tensor]], right: Tensor) -> Tensor:
    """Z^T Z right, [n_items, w]."""
    total = torch.zeros_like(right)
    for block in rows():
        wide = block.double()
        total += wide.T @ (wide @ right)
    return total
