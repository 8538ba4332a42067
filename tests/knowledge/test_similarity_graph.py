"""The graph of neighbours and its filter against dense matrices, in blocks of any size, and what thinning out does."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.knowledge.similarity_graph import SimilarityGraph, common_neighbours


@pytest.fixture
def matrix():
    """[7, 9] 0-1; row 0 is empty, row 6 shares no column with another."""
    matrix = (torch.rand(7, 9, generator=torch.Generator().manual_seed(3)) < 0.5).double()
    matrix[0] = matrix[6] = matrix[:, 8] = 0
    matrix[6, 8] = 1
    return matrix


@pytest.fixture
def neighbours(matrix):
    return common_neighbours(*matrix.nonzero().T, tuple(matrix.shape), 2, block=3)


def dense_filter(neighbours: torch.Tensor, share: float) -> torch.Tensor:
    adjacent = torch.zeros(len(neighbours), len(neighbours)).double()
    for node, row in enumerate(neighbours.tolist()):
        for other in row:
            if other >= 0:
                adjacent[node, other] = adjacent[other, node] = 1
    degrees = adjacent.sum(1).clamp(min=1)
    return share * adjacent / (degrees[:, None] * degrees).sqrt() + (1 - share) * torch.eye(len(neighbours)).double()


def rows_of(graph: SimilarityGraph, ids: torch.Tensor, share: float, keep: float, generator) -> torch.Tensor:
    nodes, low_pass = graph.low_pass(ids, share, keep, generator)
    rows = torch.zeros(len(ids), graph.n_nodes)
    rows[:, nodes] = low_pass @ torch.eye(len(nodes))
    return rows.double()


def test_neighbours_have_most_columns_in_common(matrix, neighbours) -> None:
    common = matrix @ matrix.T - torch.diag(matrix.sum(1))
    for node, row in enumerate(neighbours.tolist()):
        counts = [common[node, other].item() if other >= 0 else 0.0 for other in row]
        assert counts == common[node].sort(descending=True).values[:2].tolist()
        assert node not in row
    assert torch.equal(neighbours[[0, 6]], torch.full((2, 2), -1))


def test_the_filter_equals_a_dense_one(neighbours) -> None:
    graph, ids = SimilarityGraph.of(neighbours), torch.tensor([4, 1, 6])
    found = rows_of(graph, ids, 0.3, 1.0, torch.Generator())
    assert torch.allclose(found, dense_filter(neighbours, 0.3)[ids], atol=1e-6)


def test_thinned_out_it_is_the_same_on_average(neighbours) -> None:
    graph, ids, generator = SimilarityGraph.of(neighbours), torch.arange(7), torch.Generator().manual_seed(1)
    draws = torch.stack([rows_of(graph, ids, 0.5, 0.5, generator) for _ in range(1500)])
    assert torch.allclose(draws.mean(0), dense_filter(neighbours, 0.5), atol=0.03)
    assert (draws[0] != draws[1]).any()


def test_it_damps_what_differs_between_neighbours(neighbours) -> None:
    passed = dense_filter(neighbours, 0.5)
    low, *_, high = torch.linalg.eigh(passed[1:6, 1:6]).eigenvalues.tolist()
    assert -1e-9 <= low < 0.6 < high <= 1 + 1e-9
