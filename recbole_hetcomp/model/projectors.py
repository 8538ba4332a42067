"""Maps from the student's vectors to the teacher's: they are trained beside the student and left out of what is served.

Source: the experts and their gate are those of Kang, Hwang, Kweon, Yu, "DE-RRD", CIKM 2020, https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import gumbel

ROWS_IN_CACHE = 512  # rows of the hidden layers of 30 experts that a CPU keeps in its cache: half of the time
LEAST_WEIGHT = 1e-18  # of an expert, beside the largest of its row


def projector(width: int, target: int, hidden_ratio: float) -> nn.Module:
    """[n, width] -> [n, target]: one hidden layer of `hidden_ratio` x width units with ReLU; ratio 0: an affine map."""
    hidden = round(hidden_ratio * width)
    if not hidden:
        return nn.Linear(width, target)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, target))


class Experts(nn.Module):
    """E maps f_e: [n, d] -> [n, D], each Linear-ReLU-Linear, and a gate on the teacher's vector that mixes them.

    Args:
        width: d
        target: D
        n_experts: E
    """

    def __init__(self, width: int, target: int, n_experts: int) -> None:
        super().__init__()
        hidden = max(1, width // 2 if width == target else (width + target) // 2)
        self.first = nn.Parameter(_uniform(n_experts, width, hidden, fan_in=width))
        self.first_bias = nn.Parameter(_uniform(n_experts, hidden, fan_in=width))
        self.second = nn.Parameter(_uniform(n_experts, hidden, target, fan_in=hidden))
        self.second_bias = nn.Parameter(_uniform(n_experts, target, fan_in=hidden))
        self.gate = nn.Linear(target, n_experts, bias=False)

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """[n, D]: sum over e of weights_e f_e(x) for the rows x [n, d] and weights [n, E].

        The weights go in before the second layer, so that no [n, E, D] tensor is needed.
        """
        n_rows = ROWS_IN_CACHE if rows.device.type == "cpu" else max(1, len(rows))
        parts = zip(rows.split(n_rows), weights.expand(len(rows), -1).split(n_rows))
        return torch.cat([self._mixed(*part) for part in parts])

    def _mixed(self, rows: Tensor, weights: Tensor) -> Tensor:
        hidden = (torch.einsum("nd,edh->neh", rows, self.first) + self.first_bias).relu()
        return torch.einsum("neh,ehk->nk", hidden * weights[..., None], self.second) + weights @ self.second_bias

    def gate_logits(self, teacher: Tensor) -> Tensor:
        """[n, E]: log softmax(W t) for the teacher's rows t [n, D]."""
        return log_softmax(self.gate(teacher), dim=1)


def gumbel_softmax(log_weights: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """[n, E]: softmax((log c + Gumbel noise) / temperature); near one-hot draws of c at a temperature near 0.

    No weight is below `LEAST_WEIGHT` of a row's largest: it would add nothing to a mixture, but numbers and products too
    small to be normal make a CPU up to four times as slow, for as long as the temperature passes through them.

    Args:
        log_weights: [n, E], log c
        temperature: above 0
        generator: of the noise, on any device
    """
    noise = to_device(gumbel(tuple(log_weights.shape), generator), log_weights.device).to(log_weights.dtype)
    logits = (log_weights + noise) / temperature
    return (logits - logits.detach().amax(1, keepdim=True)).clamp(min=math.log(LEAST_WEIGHT)).softmax(1)


def annealed(start: float, end: float, epoch: int, n_epochs: int) -> float:
    """start (end / start)^(epoch / n_epochs), and `end` after `n_epochs`."""
    return start * (end / start) ** min(epoch / n_epochs, 1.0)


def _uniform(*shape: int, fan_in: int) -> Tensor:
    """As torch initialises a linear layer: uniform within 1 / sqrt(fan_in)."""
    return torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in)
