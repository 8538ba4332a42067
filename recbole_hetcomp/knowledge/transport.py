"""Which layer of a student learns from which of a teacher's: optimal transport, and weights that follow its cost.

The many-to-many layer mapping of Chen et al., "Scene-adaptive Knowledge Distillation for Sequential Recommendation via
Differentiable Architecture Search", 2021, https://arxiv.org/abs/2107.07173.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

SMOOTHING = 10.0  # of the softmax of cost attention, as the authors have it
LEAST = 0.02  # the part of all layers' costs that one has at least, so that the ratio to them is bounded


def transport_plan(costs: Tensor, supply: Tensor, demand: Tensor) -> Tensor:
    """[S, T] float64 on the CPU: the F >= 0 with sums of rows `supply` and of columns `demand` whose sum F * costs is least.

    Args:
        costs: [S, T] of moving a unit
        supply, demand: [S] and [T], above 0; each is taken as parts of 1
    """
    rows, columns = costs.shape
    of_rows = np.kron(np.eye(rows), np.ones(columns))
    of_columns = np.kron(np.ones(rows), np.eye(columns))
    sums = [(part.double() / part.double().sum()).cpu().numpy() for part in (supply, demand)]
    found = linprog(
        costs.detach().double().cpu().numpy().reshape(-1),
        A_eq=np.concatenate([of_rows, of_columns[:-1]]),  # the last column follows from the others
        b_eq=np.concatenate([sums[0], sums[1][:-1]]),
        method="highs",
    )
    if found.x is None:
        raise ArithmeticError(f"no transport plan: {found.message}")
    return torch.from_numpy(found.x.reshape(rows, columns))


def cost_attention(spent: Tensor, weights: Tensor) -> Tensor:
    """[n] float64, parts of 1: the weights of layers of which each has `spent` [n] with `weights` [n]; dear ones lose.

    A layer's price is what it spent for a unit of its weight. The weights are the softmax of (the sum of all prices /
    its own) / 10.
    """
    price = spent.double() / weights.double()
    total = price.sum()
    ratio = torch.where(total > 0, total / price.clamp(min=LEAST * total), torch.ones_like(price))
    return (ratio / SMOOTHING).softmax(0)


class LayerTransport:
    """The transport between layers of a student and of a teacher, step by step: a plan, and weights that follow its cost.

    Args:
        n_student, n_teacher: layers
        every: steps for which a plan is kept

    Attributes:
        plan: [S, T] float64 on the CPU, the last one
        of_student, of_teacher: [S] and [T] float64 on the CPU, the layers' weights, parts of 1, all alike at first
    """

    def __init__(self, n_student: int, n_teacher: int, every: int = 1) -> None:
        self.plan = torch.zeros(n_student, n_teacher, dtype=torch.float64)
        self.of_student, self.of_teacher = (torch.full((n,), 1 / n, dtype=torch.float64) for n in (n_student, n_teacher))
        self.every, self.steps = every, 0

    def step(self, costs: Tensor) -> Tensor:
        """The plan [S, T] for this step's `costs` [S, T]; where a new one is due their device is waited for."""
        if self.steps % self.every == 0:
            costs = costs.detach().double().cpu()
            self.plan = transport_plan(costs, self.of_student, self.of_teacher)
            spent = self.plan * costs
            self.of_student = cost_attention(spent.sum(1), self.of_student)
            self.of_teacher = cost_attention(spent.sum(0), self.of_teacher)
        self.steps += 1
        return self.plan

    def state_dict(self) -> dict[str, Any]:
        """The last plan, the weights, and the steps so far."""
        return {name: getattr(self, name) for name in ("plan", "of_student", "of_teacher", "steps")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: no transport comes to it.
        """
        for name in ("plan", "of_student", "of_teacher"):
            found, shape = state[name], getattr(self, name).shape
            if found.shape != shape or not bool((found >= 0).all()) or float(found.sum()) > 1 + 1e-6:
                raise ValueError(f"the {name} is none that a transport between {tuple(self.plan.shape)} layers comes to")
            setattr(self, name, found.double().cpu())
        if state["steps"] < 0 or not all(bool((state[name] > 0).all()) for name in ("of_student", "of_teacher")):
            raise ValueError("a weight of a layer is 0, or the steps are below 0")
        self.steps = int(state["steps"])
