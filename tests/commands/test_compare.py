"""What a comparison warns of."""

from __future__ import annotations

import pytest

from recbole_hetcomp.commands.compare import disappointments


@pytest.mark.parametrize(
    ("scores", "sign", "begun"),
    [
        ([0.3, 0.2, 0.4, 0.1, 0.2], 1, []),
        ([0.3, 0.5, 0.4, 0.1, 0.2], 1, ["the ensemble is below its best teacher"]),
        ([0.3, 0.2, 0.4, 0.3, 0.2], 1, ["the student is below the one without distillation"]),
        ([0.3, 0.5, 0.4, 0.1, 0.2], -1, ["the ensemble is below its best teacher", "the student is below the one"]),
    ],
)
def test_it_warns_of_an_ensemble_and_of_a_student_that_are_worse_than_what_they_are_made_of(scores, sign, begun):
    roles = ["teacher", "teacher", "ensemble", "student without distillation", "student"]
    rows = [{"role": role, "recall@10": score} for role, score in zip(roles, scores)]
    lines = disappointments(rows, "recall@10", sign)
    assert len(lines) == len(begun)
    assert all(line.startswith(start) for line, start in zip(lines, begun))


def test_a_student_without_another_one_beside_it_is_no_disappointment():
    rows = [{"role": role, "recall@10": 0.1} for role in ("teacher", "ensemble", "student")]
    assert disappointments(rows, "recall@10", 1) == []
