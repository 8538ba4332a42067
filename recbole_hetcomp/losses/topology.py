"""How far the relations among the student's vectors are from those among the teacher's.

Source: Kang, Hwang, Kweon, Yu, "Topology Distillation for Recommender System", KDD 2021, https://arxiv.org/abs/2106.08700.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def unit_rows(rows: Tensor) -> Tensor:
    """[n, d] -> [n, d]: x / |x|; a row of zeros stays, and gets no gradient."""
    norm = rows.norm(dim=1, keepdim=True)
    tiny = torch.finfo(rows.dtype).tiny
    return rows * torch.where(norm > tiny, 1 / norm.clamp(min=tiny), 0.0)


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """[n, d], [m, d] -> [n, m]: cos(x_a, y_b), 0 where one of the two is zero."""
    return unit_rows(x) @ unit_rows(y).T


def full_topology(student: Tensor, teacher: Tensor) -> Tensor:
    """[]: mean over all n^2 pairs of (cos(s_x, s_y) - cos(t_x, t_y))^2, for rows [n, d] and [n, D].

    With unit rows S and T it is |S S^T - T T^T|^2 = |S^T S|^2 - 2 |S^T T|^2 + |T^T T|^2 over n^2, so that many rows need not
    be paired. A difference of large sums: autocast, which would round them, is off.
    """
    with torch.autocast(student.device.type, enabled=False):
        s, t = (unit_rows(rows.to(torch.promote_types(rows.dtype, torch.float32))) for rows in (student, teacher))
        n = len(s)
        if n <= s.size(1) + t.size(1):  # pairs are fewer, and exact
            return (s @ s.T - t @ t.T).square().mean()
        terms = [(x.T @ y / n).square().sum() for x, y in ((s, s), (s, t), (t, t))]
        return terms[0] - 2 * terms[1] + terms[2]


def entity_topology(student: Tensor, teacher: Tensor, groups: Tensor) -> Tensor:
    """[]: mean of (cos(s_x, s_y) - cos(t_x, t_y))^2 over the pairs x != y of one group with cos(t_x, t_y) > 0.

    Args:
        student: [n, d]
        teacher: [n, D]
        groups: [n] int64, the group of each row
    """
    total = counted = student.new_zeros(())
    parts = _by_group if groups.device.type == "cpu" else _all_at_once
    for s, t, together in parts(unit_rows(student), unit_rows(teacher), groups):
        of_teacher = t @ t.T
        counts = (together & (of_teacher > 0)).fill_diagonal_(False)
        total = total + ((s @ s.T - of_teacher).square() * counts).sum()
        counted = counted + counts.sum()
    return total / counted.clamp(min=1)


def _by_group(student: Tensor, teacher: Tensor, groups: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(rows, rows, True) of each group."""
    order, sizes, every = groups.argsort(), groups.bincount().tolist(), torch.ones((), dtype=torch.bool)
    for s, t in zip(student[order].split(sizes), teacher[order].split(sizes)):
        yield s, t, every


def _all_at_once(student: Tensor, teacher: Tensor, groups: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """All rows, and which two are of one group: more pairs, and no size of a group to wait for."""
    yield student, teacher, groups[:, None] == groups


def prototypes(rows: Tensor, membership: Tensor) -> Tensor:
    """[G, d]: the mean of each group's rows [n, d], with their gradient, 0 without any; `membership` is [n, G], 0 or 1."""
    return membership.T @ rows / membership.sum(0).clamp(min=1)[:, None]


def group_topology(student: Tensor, teacher: Tensor, groups: Tensor, n_groups: int, between: str) -> Tensor:
    """[]: mean of (cos_S - cos_T)^2 over pairs of the prototype P_g of a group that has rows and, by `between`:

    entities: every row x, cos(P_g, x); groups: every other prototype, cos(P_g, P_h). The student's prototypes are means of
    its rows, and the gradient flows through them.

    Args:
        student: [n, d]
        teacher: [n, D]
        groups: [n] int64, the group of each row
        n_groups: they are counted from 0 up to it
        between: entities or groups
    """
    membership = (groups[:, None] == torch.arange(n_groups, device=groups.device)).to(student.dtype)
    # A prototype of nothing has no cosines: it adds nothing to the sums, and the means are over the others.
    share = n_groups / (membership.sum(0) > 0).to(student.dtype).sum()
    own, other = prototypes(student, membership), prototypes(teacher, membership)
    if between == "groups":
        return full_topology(own, other) * share**2
    return (cosines(own, student) - cosines(other, teacher)).square().mean() * share
