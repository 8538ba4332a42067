"""The directions in which vectors lie: principal components without a centre, so that inner products keep their meaning."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_directions(rows: Tensor, n: int) -> Tensor:
    """[D, n'] orthonormal columns V, n' = min(n, D): X V V^T is the best approximation of its rank to X.

    Args:
        rows: X [N, D]; the origin stays where it is
        n: directions, the strongest first
    """
    wide = rows.double()
    vectors = torch.linalg.eigh(wide.T @ wide).eigenvectors  # by ascending eigenvalue
    return vectors.flip(1)[:, :n].to(rows.dtype).contiguous()
