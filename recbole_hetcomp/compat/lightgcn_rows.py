"""LightGCN's propagation on the CPU by a matrix in rows (CSR), not in coordinates: the same up to rounding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from recbole.model.general_recommender import lightgcn
from torch import Tensor

from recbole_hetcomp.compat.replacing import Overlay, Undo, is_stock, replaced


def rows_are_faster() -> bool:
    """Whether LightGCN multiplies as RecBole has it, and torch has the library that is faster by rows."""
    return torch.backends.mkl.is_available() and lightgcn.torch is torch and is_stock(lightgcn.LightGCN.get_norm_adj_mat)


def propagate_by_rows() -> Undo:
    """Gives LightGCN's matrix its rows, and LightGCN a product that knows of them and of the symmetry."""
    undos = (
        replaced(lightgcn.LightGCN, get_norm_adj_mat=laying_out_in_rows(lightgcn.LightGCN.get_norm_adj_mat)),
        replaced(lightgcn, torch=Overlay(torch, sparse=Overlay(torch.sparse, mm=symmetric_mm))),
    )
    return lambda: [undo() for undo in undos]


def laying_out_in_rows(stock: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`LightGCN.get_norm_adj_mat` that lays its [n_users + n_items, n_users + n_items] matrix out in rows besides.

    A subclass that makes another matrix of it has no rows: it may change what is given here.
    """

    def get_norm_adj_mat(self: lightgcn.LightGCN) -> Tensor:
        matrix = stock(self)
        return with_rows(matrix) if type(self).get_norm_adj_mat is get_norm_adj_mat else matrix

    return get_norm_adj_mat


@dataclass(frozen=True)
class Rows:
    """A constant matrix in rows. A copy of what holds it shares it: torch cannot copy such a matrix."""

    matrix: Tensor

    def __deepcopy__(self, memo: dict[int, object]) -> Rows:
        return self


def with_rows(matrix: Tensor) -> Tensor:
    """A symmetric sparse matrix, itself, with its rows as an attribute, which it loses on its way to another device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        matrix.rows = Rows(matrix.coalesce().to_sparse_csr())  # type: ignore[attr-defined]
    return matrix


def symmetric_mm(matrix: Tensor, vectors: Tensor) -> Tensor:
    """`torch.sparse.mm` as LightGCN uses it: [N, N] sparse, [N, d] -> [N, d]."""
    rows = getattr(matrix, "rows", None)
    return torch.sparse.mm(matrix, vectors) if rows is None else SymmetricProduct.apply(rows.matrix, vectors)


class SymmetricProduct(torch.autograd.Function):
    """S @ x for a constant symmetric sparse S: the gradient is S @ g, where autograd would first transpose S each time."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, vectors: Tensor) -> Tensor:
        """[N, d]: `matrix` [N, N], sparse in rows, times `vectors` [N, d]."""
        ctx.matrix = matrix
        return _product(matrix, vectors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """None for the matrix, which is constant, and [N, d] for the vectors."""
        return None, _product(ctx.matrix, gradient)


def _product(matrix: Tensor, vectors: Tensor) -> Tensor:
    with torch.autocast(vectors.device.type, enabled=False):  # in half precision there is no such product
        return torch.sparse.mm(matrix, vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors)
