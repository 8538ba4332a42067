"""Soft labels of teachers that are unlike their student: of what they say of the observed item the student hears more.

Source: Hao, Guo, Han, Tang, Hu, Wang, Xu, "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge
Distillation" (OFA-KD), NeurIPS 2023, https://arxiv.org/abs/2310.19444.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.losses.plackett_luce import log_floor


def ofa_weights(p: Tensor, gamma: float, variant: str = "code") -> Tensor:
    """[..., n]: the weight of each candidate's -log q, where the first candidate is the observed item.

    Args:
        p: [..., n] the teacher's probabilities
        gamma: at least 1; the larger, the larger the share of the observed item
        variant: code, as the authors' code has it: p_c^gamma, and of the observed item (1 + p_0)^gamma - 1; at gamma = 1
            these are the probabilities. paper, as their equation has it: p_c, and (1 + p_0)^gamma
    """
    observed, others = (1 + p[..., :1]).pow(gamma), p[..., 1:]
    if variant == "paper":
        return torch.cat([observed, others], -1)
    return torch.cat([observed - 1, others.pow(gamma)], -1)


def ofa_loss(
    scores: Tensor, soft: Tensor, present: Tensor, gamma: float, variant: str = "code", heard: Tensor | None = None
) -> Tensor:
    """-sum over c of w_c log q_c, with the `ofa_weights` w of p = softmax(soft), and q = softmax(scores).

    Args:
        scores: [B, n] float, the student's, divided by the temperature; the first column is the observed item's
        soft: [B, n] float, the teacher's, divided by the temperature; or [M, B, n] of M teachers, whose losses are averaged
        present: [B, n] bool, or [M, B, n] of each of M teachers, True = there is an item; the others are in neither softmax
        gamma, variant: as `ofa_weights` has them
        heard: [M, B] bool, which of the M teachers count in a row's average; None = all

    Returns:
        [B], natural log; 0 for rows without items
    """
    floor = log_floor(scores)
    p = soft.clamp(min=floor).masked_fill(~present, floor).softmax(-1).masked_fill(~present, 0.0)
    weights = ofa_weights(p, gamma, variant).masked_fill(~present, 0.0)
    losses = -(weights * scores.masked_fill(~present, floor).log_softmax(-1)).sum(-1)  # [B], or [M, B]
    if losses.dim() == 1:
        return losses
    counted = torch.ones_like(losses) if heard is None else heard.to(losses.dtype)
    return (losses * counted).sum(0) / counted.sum(0).clamp(min=1)
