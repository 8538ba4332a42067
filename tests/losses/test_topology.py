"""The topologies against loops in float64, copies of the teacher, prototypes that learn, and rows of zeros."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_hetcomp.losses import topology
from recbole_hetcomp.losses.topology import cosines, entity_topology, full_topology, group_topology


@pytest.fixture
def rows():
    """(student [9, 3], teacher [9, 5], groups [9] of 7, of which 1, 4 and 6 are empty), float64."""
    torch.manual_seed(2)
    return torch.randn(9, 3).double().requires_grad_(), torch.randn(9, 5).double(), torch.tensor([0, 0, 2, 3, 2, 2, 5, 5, 0])


def cosine(x, y) -> float:
    x, y = x.tolist(), y.tolist()
    return math.fsum(a * b for a, b in zip(x, y)) / math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))


def gap(student, teacher, x: int, y: int) -> float:
    return (cosine(student[x], student[y]) - cosine(teacher[x], teacher[y])) ** 2


def test_full_topology_equals_a_loop(rows) -> None:
    student, teacher, _ = rows
    by_hand = sum(gap(student, teacher, x, y) for x in range(9) for y in range(9)) / 81
    assert full_topology(student, teacher).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("parts", ["_by_group", "_all_at_once"])
def test_entity_topology_equals_a_loop(rows, parts, monkeypatch) -> None:
    monkeypatch.setattr(topology, "_by_group", getattr(topology, parts))
    student, teacher, groups = rows
    pairs = [(x, y) for x in range(9) for y in range(9) if x != y and groups[x] == groups[y]]
    pairs = [(x, y) for x, y in pairs if cosine(teacher[x], teacher[y]) > 0]
    by_hand = sum(gap(student, teacher, x, y) for x, y in pairs) / len(pairs)
    assert entity_topology(student, teacher, groups).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("between", ["entities", "groups"])
def test_group_topology_equals_a_loop(rows, between) -> None:
    student, teacher, groups = rows
    means = [[side[groups == g].mean(0) for g in (0, 2, 3, 5)] for side in (student, teacher)]
    others = (student, teacher) if between == "entities" else means
    gaps = [
        (cosine(means[0][g], others[0][x]) - cosine(means[1][g], others[1][x])) ** 2
        for g in range(4)
        for x in range(len(others[0]))
    ]
    assert group_topology(student, teacher, groups, 7, between).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-12)


def test_the_gradient_flows_through_the_students_prototypes(rows) -> None:
    student, teacher, groups = rows
    (gradient,) = torch.autograd.grad(group_topology(student, teacher, groups, 7, "groups"), student)
    assert gradient.abs().sum(1).min() > 1e-6  # every row is in some prototype
    assert torch.autograd.gradcheck(lambda rows: group_topology(rows, teacher, groups, 7, "groups"), student)


def test_a_rotated_and_scaled_copy_has_the_same_topology(rows) -> None:
    _, teacher, groups = rows
    rotation = torch.linalg.qr(torch.randn(5, 5).double()).Q
    copy = 7.0 * teacher @ rotation
    losses = [full_topology(copy, teacher), entity_topology(copy, teacher, groups)]
    losses += [group_topology(copy, teacher, groups, 7, between) for between in ("entities", "groups")]
    assert max(losses, key=abs).abs().item() < 1e-15


def test_under_autocast_it_keeps_its_precision() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(300, 16) + 1
    student = teacher + 0.1 * torch.randn(300, 16)
    exact = full_topology(student.double(), teacher.double()).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert full_topology(student, teacher).item() == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("n", [7, 8, 9, 40])
def test_many_rows_and_few_agree(n) -> None:
    torch.manual_seed(n)
    student, teacher = torch.randn(n, 3).double(), torch.randn(n, 5).double()
    by_pairs = (cosines(student, student) - cosines(teacher, teacher)).square().mean()
    assert full_topology(student, teacher).item() == pytest.approx(by_pairs.item(), rel=1e-12)


def test_rows_of_zeros_are_unlike_everything_and_harm_nothing() -> None:
    student = torch.zeros(4, 3)
    student[0, 0] = 1.0
    student.requires_grad_()
    assert torch.equal(cosines(student, student).sum(), torch.tensor(1.0))
    group_topology(student, torch.randn(4, 5), torch.tensor([0, 1, 1, 2]), 3, "groups").backward()
    assert torch.isfinite(student.grad).all()
