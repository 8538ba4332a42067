"""The teachers of a run, trained or found: lists and models that rank, or context-aware models that predict clicks."""

from __future__ import annotations

from logging import getLogger
from typing import Union

from recbole_hetcomp import console
from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teacher_training.doubts import doubts, trainings
from recbole_hetcomp.teacher_training.scheduling import build_context_teachers, build_pool
from recbole_hetcomp.teacher_training.tuning import trials_of, tunings
from recbole_hetcomp.teachers.context import ContextTeachers
from recbole_hetcomp.teachers.ensemble import teacher_weights
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.trainer import parallel

Teachers = Union[TeacherPool, ContextTeachers]


def teachers_of_run(config: Config, split: Split, and_student_alone: bool, needs: Needs) -> tuple[Teachers, list[str]]:
    """The teachers that a run asks for, and sentences about those that look badly trained; the log has how much each counts.

    Args:
        config, split: of the run
        and_student_alone: whether the student without distillation will be asked for: it may be trained beside them
        needs: what the method takes from its teachers

    Raises:
        UserError: a teacher cannot be trained, or gives less than `needs`.
    """
    if config.family == "context":
        teachers = parallel.in_turn(lambda: build_context_teachers(config, split, and_student_alone))
        return teachers, _doubts(config, split)
    return pool_of_run(config, split, and_student_alone, needs)


def pool_of_run(config: Config, split: Split, and_student_alone: bool, needs: Needs) -> tuple[TeacherPool, list[str]]:
    """As `teachers_of_run`, for models that rank."""
    pool = parallel.in_turn(lambda: build_pool(config, split, and_student_alone, needs))
    pool.refuse_unless(needs, config.model)
    doubted = _doubts(config, split)
    _log_weights(pool, config["teacher_weighting"], config["valid_metric_bigger"])
    return pool, doubted


def fingerprints(teachers: Teachers) -> list[tuple[str, str]]:
    """(name, what tells it from any other) of each teacher."""
    if isinstance(teachers, ContextTeachers):
        return [(teacher.name, teacher.folder) for teacher in teachers.teachers]
    return [(teacher.name, teacher.trajectory.config_fingerprint) for teacher in teachers.teachers]


def _doubts(config: Config, split: Split) -> list[str]:
    """What is to be said of the teachers' trainings, and is logged."""
    found = trials_of(config, split)
    searchable = {title.removeprefix("teacher ") for title in tunings(config, split) if not found.get(title)}
    larger = config["valid_metric_bigger"]
    doubted = doubts(trainings(config, split), config["valid_metric"], larger_is_better=larger, searchable=searchable)
    for doubt in doubted:
        getLogger().warning(doubt)
    return doubted


def _log_weights(pool: TeacherPool, exponent: float, larger_is_better: bool) -> None:
    """Say how much each teacher counts: what the lists that the student learns come from."""
    weights = zip(pool.teachers, teacher_weights(pool, exponent, larger_is_better=larger_is_better).tolist())
    counts = ", ".join(f"{teacher.name} {weight:.2f}" for teacher, weight in weights)
    share = "validation score / best" if larger_is_better else "best / validation score"
    with console.about("teachers count"):
        console.say(f"{counts}: ({share}) ^ {exponent:g}; one without a score counts as the best")
