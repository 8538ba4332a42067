"""How far the graph of a student's vectors is from the teacher's: nodes are vectors, edges are their correlations.

Source: Ma, Chen, Akata, "Distilling Knowledge from Self-Supervised Teacher by Embedding Graph Alignment", BMVC 2022,
https://arxiv.org/abs/2211.13264.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbole_hetcomp.losses.topology import cosines


def correlations(x: Tensor, y: Tensor) -> Tensor:
    """[n, D], [m, D] -> [n, m]: Pearson's correlation of each two rows over their D coordinates; 0 where one is constant."""
    return cosines(x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True))


def node_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """[]: |C_ts - 1|, Frobenius: each row [n, D] correlates with the same row of the teacher, and with no other."""
    return (correlations(teacher, student) - torch.eye(len(student), device=student.device)).norm()


def edge_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """[]: |C_tt - C_ss|, Frobenius: any two rows [n, D] correlate as they do in the teacher."""
    return (correlations(teacher, teacher) - correlations(student, student)).norm()


def node_floor(n: int, d: int) -> float:
    """The least `node_loss` of n rows that are an affine map of d numbers: C_ts has rank d + 1 at most, and 1 has rank n."""
    return math.sqrt(max(n - d - 1, 0))
