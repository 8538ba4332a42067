"""Scores of a few candidates against softer targets than clicks: another model's scores of the same candidates.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

import torch
from torch import Tensor


def score_cross_entropy(student: Tensor, teacher: Tensor, present: Tensor, temperature: float) -> Tensor:
    """[B]: - sum_j softmax(teacher / temperature)_j log softmax(student / temperature)_j over the candidates present.

    Args:
        student, teacher: [B, n] scores
        present: [B, n] bool, at least one a row
        temperature: above 0
    """
    target = (teacher / temperature).masked_fill(~present, -torch.inf).softmax(1)
    log_chances = (student / temperature).masked_fill(~present, -torch.inf).log_softmax(1)
    return -(target * log_chances.masked_fill(~present, 0.0)).sum(1)
