"""How far the relations among the student's vectors are from those among the teacher's.

Source: Kang, Hwang, Kweon, Yu, "Topology Distillation for Recommender System", KDD 2021, https://arxiv.org/abs/2106.08700.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


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
        s, t = (unit_rows(rows.float() if rows.dtype in HALF else rows) for rows in (student, teacher))
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
    order = groups.argsort()
    sizes = groups.bincount().tolist()
    total = counted = student.new_zeros(())
    for s, t in zip(unit_rows(student)[order].split(sizes), unit_rows(teacher)[order].split(sizes)):
        of_teacher = t @ t.T
        counts = (of_teacher > 0).fill_diagonal_(False)
        total = total + ((s @ s.T - of_teacher).square() * counts).sum()
        counted = counted + counts.sum()
    return total / counted.clamp(min=1)


def prototypes(rows: Tensor, membership: Tensor) -> Tensor:
    """[G, d]: the mean of each group's rows [n, d], with their gradient; `membership` is [n, G], 0 or 1, no column empty."""
    return membership.T @ rows / membership.sum(0)[:, None]


def group_topology(student: Tensor, teacher: Tensor, groups: Tensor, between: str) -> Tensor:
    """[]: mean of (cos_S - cos_T)^2 over pairs of a group's prototype P_g and, by `between`:

    entities: every row x, cos(P_g, x); groups: every other prototype, cos(P_g, P_h). The student's prototypes are means of
    its rows, and the gradient flows through them.

    Args:
        student: [n, d]
        teacher: [n, D]
        groups: [n] int64, the group of each row
        between: entities or groups
    """
    present, index = groups.unique(return_inverse=True)
    membership = torch.nn.functional.one_hot(index, len(present)).to(student.dtype)
    own, other = prototypes(student, membership), prototypes(teacher, membership)
    if between == "groups":
        return full_topology(own, other)
    return (cosines(own, student) - cosines(other, teacher)).square().mean()
