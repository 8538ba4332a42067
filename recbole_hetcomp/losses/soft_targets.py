"""Scores of a few candidates against softer targets than clicks: another model's scores of the same candidates.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from torch import Tensor

from recbole_hetcomp.losses.plackett_luce import log_floor


def soft_label_loss(scores: Tensor, soft: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of two softmaxes: -sum over i of p_i log q_i, p = softmax(soft), q = softmax(scores).

    Args:
        scores: [B, n] float, the student's, divided by the temperature
        soft: [B, n] float, the teacher's, divided by the temperature; -inf = probability 0
        present: [B, n] bool, True = there is an item; the others are in neither softmax

    Returns:
        [B], natural log; 0 for rows without items. Its gradient is q - p
    """
    floor = log_floor(scores)
    p = soft.clamp(min=floor).masked_fill(~present, floor).softmax(1).masked_fill(~present, 0.0)
    return -(p * scores.masked_fill(~present, floor).log_softmax(1)).sum(1)
