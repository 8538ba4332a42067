"""Whom to listen to, learned by trial: REINFORCE with Bernoulli actions, and what a policy can know of lists and scores.

Source: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine
Learning 8, 1992, https://doi.org/10.1007/BF00992696.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

LEAST, MOST = 0.05, 0.95  # probabilities of a selection: whoever is never, or always, selected is never tried again
START = 0.7  # probability of every selection before anything is learned


def probabilities(logits: Tensor) -> Tensor:
    """Of `logits` of any shape, within LEAST and MOST, with a gradient everywhere."""
    return LEAST + (MOST - LEAST) * logits.sigmoid()


def starting_logit() -> float:
    """The logit of START."""
    share = (START - LEAST) / (MOST - LEAST)
    return math.log(share / (1 - share))


def policy_loss(probability: Tensor, actions: Tensor, free: Tensor, advantages: Tensor) -> Tensor:
    """[]: minus the mean over the batch of advantage * log P(actions).

    Its expected gradient is minus that of the expected reward, where advantages are rewards less what does not depend on the
    actions.

    Args:
        probability: [B, M] float, of each selection, with gradients
        actions: [B, M] bool, what was selected by these probabilities
        free: [B, M] bool, where there was a choice
        advantages: [B] float
    """
    log_probability = torch.where(actions, probability, 1 - probability).log().masked_fill(~free, 0.0).sum(1)
    return -(advantages * log_probability).mean()


def standardised(values: Tensor, present: Tensor) -> Tensor:
    """`values` [B, ...] of mean 0 and deviation 1 over the rows where they are `present`, of that shape or broadcast to it.

    0 where they are not, and where all of a column are the same.
    """
    present = present.expand_as(values)
    count = present.sum(0).clamp(min=1)
    centred = (values - values.masked_fill(~present, 0.0).sum(0) / count).masked_fill(~present, 0.0)
    deviation = (centred.square().sum(0) / count).sqrt()
    eps = torch.finfo(values.dtype).eps
    constant = deviation <= 4 * eps * values.masked_fill(~present, 0.0).abs().amax(0)  # rounding of equal numbers
    return centred / deviation.masked_fill(constant, torch.inf)


def consensus(members: Tensor, n_lists: int) -> Tensor:
    """[B, M]: which share of a list's items another list has, in the mean over the others that are not empty.

    Args:
        members: [B, n] int64, in which lists an item is, bit m for list m; an item of several lists once, 0 = no item
        n_lists: M
    """
    held = (members[:, :, None] >> torch.arange(n_lists, device=members.device)) & 1  # [B, n, M]
    lengths = held.sum(1)
    others = ((lengths > 0).sum(1, keepdim=True) - 1).clamp(min=1)
    shared = (held * (held.sum(2, keepdim=True) - 1)).sum(1)
    return shared / (others * lengths.clamp(min=1))


def evidence(listed: Tensor, present: Tensor, positives: Tensor, known: Tensor, log_mass: Tensor) -> Tensor:
    """[B, 2]: the entropy of softmax(scores of a teacher's list), and its mean log-probability of a user's positives.

    Args:
        listed: [B, K] float, scores of its list
        present: [B, K] bool, False = padding
        positives: [B, H] float, scores of what the user has interacted with
        known: [B, H] bool, False = padding
        log_mass: [B] float, log sum exp of all its scores
    """
    log_p = listed.masked_fill(~present, -torch.inf).log_softmax(1).masked_fill(~present, 0.0)
    entropy = -(log_p.exp() * log_p * present).sum(1)
    log_probability = ((positives - log_mass[:, None]) * known).sum(1) / known.sum(1).clamp(min=1)
    return torch.stack([entropy.nan_to_num(0.0), log_probability], 1)


class DelayedReward:
    """The gain in a score, credited to all actions since the score before: it rewards the same way until the next one.

    A gain counts as its share of the largest so far, up or down, so that it is of the order of `standardised` rewards.

    Attributes:
        credit: [P] the sum over steps of the gradient of log P(actions), P parameters
        direction: [P] that share, times the mean of what was credited then
        score: [1] the last score; [0] before the first
        largest: the largest |gain| so far
        steps: since the last score
    """

    def __init__(self, n_parameters: int = 0, device: torch.device | str = "cpu") -> None:
        self.credit, self.direction = (torch.zeros(n_parameters, device=device) for _ in range(2))
        self.score, self.largest, self.steps = torch.zeros(0, dtype=torch.float64), 0.0, 0

    def note(self, log_probability: Tensor, policy: nn.Module) -> None:
        """A step was taken with actions of this log-probability []."""
        gradients = torch.autograd.grad(log_probability, list(policy.parameters()), retain_graph=True)
        self.credit, self.steps = self.credit + parameters_to_vector(gradients), self.steps + 1

    def settle(self, score: float) -> None:
        """A new score, larger is better."""
        gain = score - float(self.score) if len(self.score) else 0.0
        self.largest = max(self.largest, abs(gain))
        share = gain / self.largest if self.largest else 0.0
        self.direction = self.credit * (share / max(self.steps, 1))
        self.credit, self.steps = torch.zeros_like(self.credit), 0
        self.score = torch.tensor([score], dtype=torch.float64)

    def reward(self, policy: nn.Module) -> Tensor:
        """[]: what grows as the policy becomes more what it was when the score rose; of its gradient alone."""
        return self.direction @ parameters_to_vector(policy.parameters())

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return dict(vars(self))

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError: it is another policy's.
        """
        if (
            any(state[name].shape != getattr(self, name).shape for name in ("credit", "direction"))
            or state["score"].dim() != 1
        ):
            raise ValueError("the delayed reward is of another policy")
        self.credit, self.direction = (state[name].to(self.credit.device) for name in ("credit", "direction"))
        self.score, self.largest, self.steps = state["score"].cpu(), state["largest"], state["steps"]
