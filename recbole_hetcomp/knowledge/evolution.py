"""The best of a space that is too large to be looked at as a whole, by ageing evolution.

Source: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019,
https://arxiv.org/abs/1802.01548; the parent is one of several best, as Dong, Li, Wei, "DisWOT", CVPR 2023, describe it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Candidate = TypeVar("Candidate")

POPULATION, TOURNAMENT, PARENTS = 36, 8, 5
MUTATIONS = 20  # for each candidate that may be scored, before a space counts as exhausted


def ageing_evolution(
    candidates: Sequence[Candidate],
    mutated: Callable[[Candidate, torch.Generator], Candidate],
    score: Callable[[Candidate], float | None],
    most: int,
    generator: torch.Generator,
) -> dict[Candidate, float]:
    """The scores of all candidates that were looked at.

    A population of POPULATION random ones. In a round TOURNAMENT of them are drawn, one of the PARENTS best of these gets a
    child by one mutation, and the oldest of the population goes.

    Args:
        candidates: the space, or as much of it as first members are drawn from; hashable
        mutated: a candidate, changed in one place
        score: the larger the better, None for one that is not allowed; asked once for each candidate
        most: candidates that are scored, the first population among them; what is not allowed and what comes again is free
        generator: of all draws, on the CPU
    """
    known: dict[Candidate, float | None] = {}
    found: dict[Candidate, float] = {}
    population: deque[Candidate] = deque()

    def join(candidate: Candidate) -> bool:
        if candidate not in known:
            known[candidate] = score(candidate)
        value = known[candidate]
        if value is not None:
            found[candidate] = value
            population.append(candidate)
        return value is not None

    for index in torch.randperm(len(candidates), generator=generator).tolist():
        if join(candidates[index]) and len(population) == min(POPULATION, most):
            break
    for _ in range(MUTATIONS * most if population else 0):
        if len(found) >= most:
            break
        drawn = torch.randperm(len(population), generator=generator)[:TOURNAMENT].tolist()
        best = sorted((population[index] for index in drawn), key=found.__getitem__, reverse=True)[:PARENTS]
        parent = best[int(torch.randint(len(best), (), generator=generator))]
        if join(mutated(parent, generator)):
            population.popleft()
    return found
