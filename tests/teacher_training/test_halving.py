"""When a trial of a search goes on, and when it ends."""

from __future__ import annotations

import pytest

from recbole_hetcomp.teacher_training.halving import goes_on


def curve(*scores: float) -> dict[int, float]:
    """Scores after 1, 2, 3, ... validations."""
    return dict(enumerate(scores, start=1))


FIRST = curve(*[0.5] * 30)  # its rungs are 10 and 20


def ends_at(score: float, others, *, larger_is_better: bool = True, length: int = 60) -> int | None:
    """After how many validations a trial ends whose score stays as it is; None: it does not."""
    goes = (goes_on(curve(*[score] * n), others, larger_is_better=larger_is_better) for n in range(1, length + 1))
    return next((n for n, on in enumerate(goes, start=1) if not on), None)


def test_the_first_trial_is_compared_with_nothing() -> None:
    assert ends_at(0.0, []) is None
    assert ends_at(0.0, [{}, {}]) is None  # those that failed at once


@pytest.mark.parametrize(("validations", "rung"), [(30, 10), (50, 17), (12, 4), (1, 4), (100, 33)])
def test_the_first_rung_is_a_third_of_the_first_training_but_not_before_four(validations, rung) -> None:
    assert ends_at(0.4, [curve(*[0.5] * validations)]) == rung


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_the_better_half_goes_on(larger_is_better) -> None:
    sign = 1 if larger_is_better else -1
    others = [curve(*[sign * score] * 30) for score in (0.5, 0.1, 0.2, 0.3)]

    def ends(score: float) -> int | None:
        return ends_at(sign * score, others, larger_is_better=larger_is_better)

    assert ends(0.6) is None
    assert ends(0.35) is None  # second of five
    assert ends(0.25) is None  # third of five: the half is rounded up
    assert ends(0.15) == 10
    assert ends(0.05) == 10


def test_a_tie_goes_on() -> None:
    assert ends_at(0.5, [FIRST]) is None


def test_rungs_double() -> None:
    slow_but_good = {n: 0.6 if n < 15 else 0.1 for n in range(1, 41)}
    told = [n for n in range(1, 41) if not goes_on({n: slow_but_good[n]}, [FIRST], larger_is_better=True)]
    assert told == [20, 40]


def test_a_training_that_stopped_before_a_rung_stands_there_with_its_last_score() -> None:
    short = curve(*[0.7] * 5)
    assert ends_at(0.5, [FIRST, short]) is None  # second of three
    assert ends_at(0.4, [FIRST, short]) == 10  # third of three


def test_trials_are_compared_by_what_they_had_at_the_rung() -> None:
    late = curve(*[0.1] * 15, *[0.9] * 15)
    assert ends_at(0.5, [late]) == 20
