"""When a trial of a search goes on, and when it ends."""

from __future__ import annotations

import pytest

from recbole_hetcomp.teacher_training.halving import Curve, goes_on


def curve(*scores: float, complete: bool = True) -> Curve:
    """A trial with its scores after 1, 2, 3, ... validations."""
    return Curve(dict(enumerate(scores, start=1)), complete)


FIRST = curve(*[0.5] * 20)  # its rungs are 10, 20 and 40


def ends_at(score: float, others, *, larger_is_better: bool = True, length: int = 60) -> int | None:
    """After how many validations a trial ends whose score stays as it is; None: it does not."""
    goes = (goes_on(curve(*[score] * n).scores, others, larger_is_better=larger_is_better) for n in range(1, length + 1))
    return next((n for n, on in enumerate(goes, start=1) if not on), None)


def test_nothing_ends_before_a_trial_has_come_to_its_own_end() -> None:
    assert ends_at(0.0, []) is None
    assert ends_at(0.0, [curve(complete=False), curve(0.5, complete=False)]) is None  # those that became NaN


@pytest.mark.parametrize(("validations", "rung"), [(30, 15), (50, 25), (8, 4), (1, 4), (100, 50)])
def test_the_first_rung_is_half_of_the_first_training_but_not_before_four(validations, rung) -> None:
    assert ends_at(0.4, [curve(*[0.5] * validations)]) == rung


def test_a_trial_that_failed_first_does_not_set_the_rungs() -> None:
    assert ends_at(0.4, [curve(0.1, complete=False), FIRST]) == 10


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_the_better_half_goes_on(larger_is_better) -> None:
    sign = 1 if larger_is_better else -1
    others = [curve(*[sign * score] * 20) for score in (0.5, 0.1, 0.2, 0.3)]

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
    ended = [n for n in range(1, 45) if not goes_on({n: 0.1}, [FIRST], larger_is_better=True)]
    assert ended == [10, 20, 40]


def test_a_training_that_stopped_before_a_rung_stands_there_with_its_best_score() -> None:
    short = curve(*[0.7] * 5)
    assert ends_at(0.5, [FIRST, short]) is None  # second of three
    assert ends_at(0.4, [FIRST, short]) == 10  # third of three


def test_a_later_rung_ranks_those_that_reached_it() -> None:
    """Trials that ended at the first rung are no reason to go on beyond the second one."""
    ended = [curve(*[0.1] * 10, complete=False)] * 8
    assert ends_at(0.4, [FIRST, *ended]) == 20
    assert ends_at(0.6, [FIRST, *ended]) is None


def test_trials_are_compared_by_what_they_had_at_the_rung() -> None:
    late = curve(*[0.1] * 15, *[0.9] * 5)
    assert ends_at(0.5, [late]) == 20
