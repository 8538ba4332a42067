"""Successive halving of trials that come one after the other: at each rung those that are not among the better half end.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934,
with a reduction factor of 2. The first rung is a third of the first trial's validations, which Optuna's pruner cannot know:
a model that takes 50 validations is not judged as early as one that takes ten. A trial that stopped before a rung stands
there with its last score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FIRST_RUNG = 1 / 3  # of the first trial's validations
LEAST = 4  # validations before any trial ends


def goes_on(scores: Mapping[int, float], others: Sequence[Mapping[int, float]], *, larger_is_better: bool) -> bool:
    """Whether a trial is worth its next validations.

    Args:
        scores: of the trial, by the number of validations, counted from 1: its best score so far
        others: those of the trials before it, in their order; one that failed at once has none
        larger_is_better: of the scores

    Returns:
        True between two rungs and for the first trial; at a rung whether its score is among the better half, its own counted
    """
    before = [other for other in others if other]
    if not before:
        return True
    step, first = max(scores), max(LEAST, round(FIRST_RUNG * max(before[0])))
    if step not in (first * 2**power for power in range(step.bit_length())):
        return True
    sign = 1 if larger_is_better else -1
    there = [sign * other[max(earlier)] for other in before if (earlier := [at for at in other if at <= step])]
    better = sum(score > sign * scores[step] for score in there)
    return better < (len(there) + 2) // 2
