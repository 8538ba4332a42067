"""Which users, and which items, are alike: the graph of nearest neighbours by common interactions, and its low-pass filter.

Source: Zhu, Zhang, "Exploring Feature-based Knowledge Distillation for Recommender System: A Frequency Perspective", KDD
2025, https://arxiv.org/abs/2411.10676.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def common_neighbours(rows: Tensor, columns: Tensor, shape: tuple[int, int], k: int, block: int) -> Tensor:
    """[n, k'] int64: for each row of a 0-1 matrix the k' = min(k, n) others with most columns in common; -1 = none.

    Args:
        rows, columns: [N] int64, the matrix's ones, each once
        shape: (n, m)
        k: neighbours
        block: rows compared with all at once
    """
    ones = torch.ones(len(rows))
    matrix = torch.sparse_coo_tensor(torch.stack([rows, columns]), ones, shape, check_invariants=False).coalesce()
    found = []
    for index in torch.arange(shape[0]).split(block):
        dense = matrix.index_select(0, index).to_dense()  # [b, m]
        counts = torch.sparse.mm(matrix, dense.T).T  # [b, n]
        counts.scatter_(1, index[:, None], 0.0)  # not itself
        most = counts.topk(min(k, shape[0]), dim=1)
        found.append(most.indices.masked_fill(most.values == 0, -1))
    return torch.cat(found)


@dataclass(frozen=True)
class LowPass:
    """Some rows of a sparse matrix, as the entries that are not 0.

    Attributes:
        rows, columns: [E] int64
        weights: [E] float32
        n_rows: B
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor
    n_rows: int

    def moved(self, move: Callable[[Tensor], Tensor]) -> LowPass:
        """The same with every tensor as `move` returns it."""
        return LowPass(move(self.rows), move(self.columns), move(self.weights), self.n_rows)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """[N, D] -> [B, D], with gradients."""
        weighted = vectors.index_select(0, self.columns) * self.weights[:, None]
        return weighted.new_zeros(self.n_rows, vectors.size(1)).index_add(0, self.rows, weighted)


@dataclass(frozen=True)
class SimilarityGraph:
    """A = D^-1/2 (0-1 matrix of neighbours either way) D^-1/2.

    Attributes:
        edges: [2, E] int64, both directions of each
        weights: [E] float32
        n_nodes: nodes, with or without edges
    """

    edges: Tensor
    weights: Tensor
    n_nodes: int

    @classmethod
    def of(cls, neighbours: Tensor) -> SimilarityGraph:
        """The graph of the lists [n, k] of neighbours, -1 = none."""
        n = len(neighbours)
        pairs = torch.stack([torch.arange(n)[:, None].expand_as(neighbours)[neighbours >= 0], neighbours[neighbours >= 0]])
        codes = torch.cat([pairs[0] * n + pairs[1], pairs[1] * n + pairs[0]]).unique()
        edges = torch.stack([codes // n, codes % n])
        degrees = torch.bincount(edges[0], minlength=n).float()
        return cls(edges, (degrees[edges[0]] * degrees[edges[1]]).rsqrt(), n)

    def low_pass(self, ids: Tensor, share: float, keep: float, generator: torch.Generator) -> tuple[Tensor, LowPass]:
        """(nodes [N], filter [B, N]): the rows `ids` of H = share A + (1 - share) 1, without the columns of zeros.

        Args:
            ids: [B] int64, each once
            share: of the neighbours
            keep: chance of each edge to be there, with its weight divided by it
            generator: of the CPU
        """
        place = torch.full((self.n_nodes,), -1)
        place[ids] = torch.arange(len(ids))
        near = place[self.edges[0]] >= 0
        near[near.clone()] = torch.rand(int(near.sum()), generator=generator) < keep
        nodes, column = torch.cat([ids, self.edges[1, near]]).unique(return_inverse=True)
        row = torch.cat([torch.arange(len(ids)), place[self.edges[0, near]]])
        weights = torch.cat([torch.full((len(ids),), 1 - share), self.weights[near] * share / keep])
        return nodes, LowPass(row, column, weights, len(ids))
