"""Ageing evolution: it finds the best of spaces that it does not look through, and never returns what is not allowed."""

from __future__ import annotations

import torch

from recbole_hetcomp.knowledge.evolution import POPULATION, ageing_evolution

SIDE = 8  # of a cube of candidates
SPACE = [(a, b, c) for a in range(SIDE) for b in range(SIDE) for c in range(SIDE)]
BUDGET = 14


def mutated(candidate, generator):
    """One of its numbers becomes another one."""
    place = int(torch.randint(3, (), generator=generator))
    other = (candidate[place] + int(torch.randint(1, SIDE, (), generator=generator))) % SIDE
    return tuple(other if at == place else value for at, value in enumerate(candidate))


def quality(candidate):
    """The best of all is far beyond the budget, so that the best that is allowed lies on its edge."""
    a, b, c = candidate
    return -((a - 9) ** 2) - 0.5 * (b - 7) ** 2 - 0.3 * (c - 4) ** 2


def allowed(candidate):
    return sum(candidate) <= BUDGET


def found(seed, most=300):
    return ageing_evolution(
        SPACE,
        mutated,
        lambda candidate: quality(candidate) if allowed(candidate) else None,
        most,
        torch.Generator().manual_seed(seed),
    )


def test_it_finds_the_optimum_of_an_enumeration_in_95_of_100_seeds() -> None:
    best = max(filter(allowed, SPACE), key=quality)
    results = [found(seed) for seed in range(100)]
    assert sum(max(result, key=result.__getitem__) == best for result in results) >= 95
    assert all(allowed(candidate) for result in results for candidate in result)
    assert max(map(len, results)) <= 300 < sum(map(allowed, SPACE))


def test_it_is_the_same_for_the_same_seed_and_scores_are_the_candidates_own() -> None:
    assert found(3) == found(3)
    assert found(3) != found(4)
    assert all(score == quality(candidate) for candidate, score in found(3).items())


def test_each_candidate_is_asked_for_once() -> None:
    asked = []
    ageing_evolution(SPACE, mutated, lambda c: asked.append(c) or 0.0, 200, torch.Generator().manual_seed(0))
    assert len(asked) == len(set(asked)) > POPULATION


def test_a_space_smaller_than_the_population_is_looked_through_and_one_without_any_allowed_gives_nothing() -> None:
    small = SPACE[:5]
    result = ageing_evolution(small, lambda c, _: c, lambda c: float(c[2]), 300, torch.Generator().manual_seed(0))
    assert set(result) == set(small)
    assert not ageing_evolution(SPACE, mutated, lambda _: None, 300, torch.Generator().manual_seed(0))
