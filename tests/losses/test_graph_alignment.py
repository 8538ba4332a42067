"""Graph alignment: against loops, its zeros, its symmetries, and the floor under the node loss."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.losses.graph_alignment import correlations, edge_loss, node_floor, node_loss


def drawn(seed: int, n: int, size: int) -> torch.Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pearson(x: list[float], y: list[float]) -> float:
    x, y = ([value - statistics.fmean(row) for value in row] for row in (x, y))
    norms = math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))
    return math.fsum(a * b for a, b in zip(x, y)) / norms


def test_both_losses_equal_loops() -> None:
    student, teacher = drawn(0, 6, 9), drawn(1, 6, 9)
    s, t = student.tolist(), teacher.tolist()
    pairs = [(a, b) for a in range(6) for b in range(6)]
    node = math.sqrt(math.fsum((pearson(t[a], s[b]) - (a == b)) ** 2 for a, b in pairs))
    edge = math.sqrt(math.fsum((pearson(t[a], t[b]) - pearson(s[a], s[b])) ** 2 for a, b in pairs))
    assert node_loss(student, teacher).item() == pytest.approx(node, rel=1e-12)
    assert edge_loss(student, teacher).item() == pytest.approx(edge, rel=1e-12)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 12))
def test_edges_are_those_of_rows_stretched_and_shifted_each_by_itself(seed, n) -> None:
    teacher = drawn(seed, n, 7)
    scale, shift = drawn(seed + 1, n, 1).exp(), 5 * drawn(seed + 2, n, 1)
    assert edge_loss(scale * teacher + shift, teacher).item() < 1e-10
    own = drawn(seed + 3, n, 7)
    torch.testing.assert_close(correlations(scale * own + shift, teacher), correlations(own, teacher))
    if n > 2:
        assert edge_loss(own, teacher) > 1e-3


def test_copies_of_orthogonal_centred_rows_are_at_no_distance() -> None:
    basis = torch.linalg.qr(torch.cat([torch.ones(9, 1, dtype=torch.float64), drawn(3, 9, 5)], 1)).Q[:, 1:].T
    assert basis.sum(1).abs().max() < 1e-12
    assert node_loss(3 * basis, basis).item() < 1e-12
    assert edge_loss(3 * basis, basis).item() < 1e-12
    assert node_loss(drawn(4, 5, 9), drawn(4, 5, 9)) > 0.1  # rows that are not orthogonal: not even for copies


@given(seed=st.integers(0, 10**6), n=st.integers(2, 12))
def test_the_order_of_the_nodes_plays_no_role(seed, n) -> None:
    student, teacher = drawn(seed, n, 8), drawn(seed + 1, n, 8)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for loss in (node_loss, edge_loss):
        torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))
    torch.testing.assert_close(correlations(teacher[order], student), correlations(teacher, student)[order])


@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), d=st.integers(1, 12), size=st.integers(13, 60))
def test_no_affine_map_of_d_numbers_comes_below_the_floor(seed, n, d, size) -> None:
    """Of any rows, and of the best: the teacher's own, projected onto d of their directions."""
    teacher = drawn(seed, n, size)
    student = drawn(seed + 1, n, d) @ drawn(seed + 2, d, size) + drawn(seed + 3, 1, size)
    assert node_loss(student, teacher).item() >= node_floor(n, d) - 1e-6
    left, values, right = torch.linalg.svd(teacher, full_matrices=False)
    nearest = (left[:, :d] * values[:d]) @ right[:d]
    assert node_loss(nearest, teacher).item() >= node_floor(n, d) - 1e-6


def test_the_floor_is_reached() -> None:
    """By gradient steps from the student's side, for a teacher of orthogonal rows."""
    torch.manual_seed(0)
    teacher = torch.linalg.qr(torch.cat([torch.ones(40, 1), torch.randn(40, 16)], 1)).Q[:, 1:].T
    rows, maps = torch.randn(16, 3, requires_grad=True), torch.randn(3, 40, requires_grad=True)
    shift = torch.zeros(40, requires_grad=True)
    optimizer = torch.optim.Adam([rows, maps, shift], lr=0.02)
    for _ in range(2000):
        optimizer.zero_grad()
        loss = node_loss(rows @ maps + shift, teacher)
        loss.backward()
        optimizer.step()
    assert node_floor(16, 3) == pytest.approx(math.sqrt(12))
    assert node_floor(16, 3) - 1e-4 <= loss.item() <= 1.05 * node_floor(16, 3)
    assert node_floor(3, 8) == 0


def test_gradients_are_finite_where_a_norm_is_zero_and_rows_are_constant() -> None:
    teacher = torch.eye(4)
    for start in (teacher, torch.zeros(4, 4), torch.ones(4, 4)):
        student = start.clone().requires_grad_()
        (node_loss(student, teacher) + edge_loss(student, teacher)).backward()
        assert student.grad.isfinite().all()
