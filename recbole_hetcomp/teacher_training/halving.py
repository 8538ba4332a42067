"""Successive halving of trials that come one after the other: at each rung those that are not among the better half end.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934,
with a reduction factor of 2. The first rung is half of the first trial's validations, which Optuna's pruner cannot know: a
model that takes 50 validations is not judged as early as one that takes ten, and slow settings have time to rise. A rung
ranks those that reached it, and those that early stopping ended before: these stand there with their best score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST_RUNG = 0.5  # of the first trial's validations
LEAST = 4  # validations before any trial ends


@dataclass(frozen=True)
class Curve:
    """A trial before: its best score so far by the number of validations, from 1 on, and whether it came to its own end."""

    scores: Mapping[int, float]
    complete: bool

    def at(self, step: int) -> float | None:
        """Its score at a rung; None where it ended early before."""
        if step in self.scores:
            return self.scores[step]
        return self.scores[max(self.scores)] if self.complete and self.scores and max(self.scores) < step else None


def goes_on(scores: Mapping[int, float], others: Sequence[Curve], *, larger_is_better: bool) -> bool:
    """Whether a trial is worth its next validations.

    Args:
        scores: of the trial: its best score so far by the number of validations, from 1 on
        others: the trials before it, in their order
        larger_is_better: of the scores

    Returns:
        True between two rungs and until a trial has come to its own end; at a rung whether the score is among the better
        half, its own counted
    """
    lengths = [max(other.scores) for other in others if other.complete and other.scores]
    if not lengths:
        return True
    step, first = max(scores), max(LEAST, round(FIRST_RUNG * lengths[0]))
    if step not in (first * 2**power for power in range(step.bit_length())):
        return True
    sign = 1 if larger_is_better else -1
    there = [score for score in (other.at(step) for other in others) if score is not None]
    better = sum(sign * score > sign * scores[step] for score in there)
    return better < (len(there) + 2) // 2
