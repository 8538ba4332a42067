"""How much a teacher counts: by its validation score, whether that is to be large or small."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.data.history import History
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.teachers.ensemble import Ensemble, teacher_weights
from recbole_hetcomp.teachers.single import SingleTeacher

NAN = float("nan")


def pool_of(*scores: float, n_users: int = 62) -> TeacherPool:
    teachers = []
    for score in scores:
        trajectory = Trajectory.from_lists(torch.zeros(n_users, 2, dtype=torch.int32))
        trajectory.valid_scores[:] = score
        teachers.append(Teacher("lists", trajectory))
    return TeacherPool(teachers)


@pytest.mark.parametrize(
    ("scores", "larger", "weights"),
    [
        ((0.2, 0.4), True, (0.25, 1.0)),
        ((0.2, 0.4), False, (1.0, 0.25)),
        ((0.2, NAN, 0.4), True, (0.25, 1.0, 1.0)),
        ((0.2, NAN, 0.4), False, (1.0, 1.0, 0.25)),
        ((NAN, NAN), False, (1.0, 1.0)),
    ],
)
def test_a_teacher_counts_by_its_share_of_the_best_score(scores, larger, weights) -> None:
    assert teacher_weights(pool_of(*scores), 2.0, larger_is_better=larger).tolist() == pytest.approx(weights)
    assert teacher_weights(pool_of(*scores), 0.0, larger_is_better=larger).tolist() == [1.0] * len(scores)


@pytest.mark.parametrize(("metric", "weights"), [("Recall@10", [0.5, 1.0]), ("AveragePopularity@10", [1.0, 0.5])])
def test_ensemble_and_single_teacher_know_which_way_the_valid_metric_points(make_config, split, metric, weights) -> None:
    settings = {"metrics": ["Recall", "AveragePopularity"], "valid_metric": metric, "teacher_weighting": 1.0}
    config, pool = make_config("HetCompStudent", **settings), pool_of(0.3, 0.6)
    assert Ensemble.from_config(pool, config).weights.tolist() == pytest.approx(weights)
    single = SingleTeacher.from_config(pool, History.of(split.train), config)
    assert single.weights.tolist() == pytest.approx([weight / 1.5 for weight in weights])
