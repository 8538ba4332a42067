"""The comparison that ends a run: teachers, ensemble, student without and with distillation, on the test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_hetcomp.commands.teachers import Teachers
from recbole_hetcomp.config import Config
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.split import Loaders, Split
from recbole_hetcomp.evaluation.comparison import (
    Row,
    add_fidelity,
    final_lists,
    model_row,
    save_comparison,
    table,
    teacher_rows,
)
from recbole_hetcomp.evaluation.ctr import ALONE, STUDENT, click_rows, click_table
from recbole_hetcomp.evaluation.popularity import DEPTH, popularity_of
from recbole_hetcomp.evaluation.significance import as_dicts, differences
from recbole_hetcomp.model.distilled import Distilled
from recbole_hetcomp.teacher_training.alone import student_alone
from recbole_hetcomp.teacher_training.cache import settings_of
from recbole_hetcomp.teacher_training.tuning import trials_of
from recbole_hetcomp.teachers.context import ContextTeachers
from recbole_hetcomp.teachers.pool import TeacherPool


def compare_with_teachers(
    config: Config,
    split: Split,
    loaders: Loaders,
    teachers: Teachers,
    model: Distilled,
    result: dict[str, Any],
) -> list[Row]:
    """The rows of the comparison, saved beside the checkpoint where there is one.

    Args:
        result: of the run. `doubts` of the rows and `against` are added to it: by role and metric, how far the student is
            from the ensemble and from the student alone; of models that rank, also `popularity`, `popularity_of` each row
    """
    students: dict[str, tuple[str, AbstractRecommender]] = {STUDENT: (f"{config.model} ({config['student']})", model)}
    if config["without_distillation"]:
        students = {ALONE: (config["student"], student_alone(config, split)), **students}
    clicks = isinstance(teachers, ContextTeachers)
    if isinstance(teachers, ContextTeachers):
        rows = click_rows(teachers, students, config, loaders)
        result["against"] = rows[-1]["against"]
    else:
        rows = _ranking_rows(teachers, students, config, split, loaders, result)
    _add_trials(rows, config, split)
    sign = 1 if config["valid_metric_bigger"] else -1
    for line in disappointments(rows, config["valid_metric"].lower(), sign, clicks=clicks):
        getLogger().warning(line)
        result["doubts"].append(line)
    if result["checkpoint"]:
        _save(rows, config, split, result["checkpoint"])
    return rows


def _ranking_rows(
    pool: TeacherPool,
    students: Mapping[str, tuple[str, AbstractRecommender]],
    config: Config,
    split: Split,
    loaders: Loaders,
    result: dict[str, Any],
) -> list[Row]:
    """The rows of models that rank; `against` and `popularity` are added to `result`."""
    users: dict[str, dict[str, np.ndarray]] = {role: {} for role in ("ensemble", ALONE, STUDENT)}
    rows = teacher_rows(pool, config, split, loaders, users["ensemble"])
    ensemble, theirs = rows[-1], final_lists(pool, config, split)
    lists = [teacher.trajectory.items[-1][:, :DEPTH][split.history.active_users] for teacher in pool.teachers]
    popularity = [_popularity(part, split) for part in [*lists, theirs]]
    for role, (name, student) in students.items():
        row = model_row(role, name, student, config, split, loaders, users[role])
        popularity.append(_popularity(add_fidelity(row, student, theirs, ensemble, config, split), split))
        rows.append(row)
    ours = _seeds_of(users.pop(STUDENT))
    others = {role: _seeds_of(of_role) for role, of_role in users.items() if of_role}
    result["against"] = {role: as_dicts(differences(ours, theirs)) for role, theirs in others.items()}
    result["popularity"] = popularity
    return rows


def comparison_table(rows: Sequence[Row], config: Config) -> Table:
    """The rows of a comparison as a table."""
    return click_table(rows) if config.family == "context" else table(rows, config["valid_metric"])


def _popularity(lists: Tensor, split: Split) -> dict[str, float]:
    """`popularity_of` the best items of lists [A, k]."""
    return popularity_of(lists[:, :DEPTH], split.history.popularity)


def _seeds_of(users: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each metric user by user, as that of one seed [1, n_users]."""
    return {metric: values[None] for metric, values in users.items()}


def _add_trials(rows: Sequence[Row], config: Config, split: Split) -> None:
    """Add to each row how many trials the settings of its training were searched with, where any were."""
    counts = trials_of(config, split)
    alone = counts.get(f"{config['student']} without distillation", 0)
    of_role = {ALONE: alone, STUDENT: config.trials}
    for row in rows if counts else ():
        row["trials"] = of_role.get(row["role"], counts.get(f"teacher {row['model']}"))


def disappointments(rows: Sequence[Row], metric: str, sign: int, *, clicks: bool = False) -> list[str]:
    """Sentences about an ensemble below its best teacher and a student below the one without distillation.

    Args:
        rows: of the comparison
        metric: by which they are compared
        sign: 1 where more of it is better, -1 where less is
        clicks: whether they are of clicks, where all teachers count alike
    """
    of = {row["role"]: sign * row[metric] for row in rows}
    lines = []
    if of["ensemble"] < max(sign * row[metric] for row in rows if row["role"] == "teacher"):
        lines.append(
            "the ensemble is below its best teacher: leave weak teachers out"
            + ("" if clicks else " (a file counts as much as the best), or raise teacher_weighting")
        )
    if of["student"] < of.get("student without distillation", of["student"]):
        lines.append(
            "the student is below the one without distillation: let it train longer (epochs, stopping_step; "
            "train_batch_size where an epoch has few steps), or change distillation_weight where it has a loss of its own"
        )
    return lines


def _save(rows: Sequence[Row], config: Config, split: Split, checkpoint: str) -> None:
    """Write the table beside the checkpoint, with all that it comes from."""
    provenance = {
        "dataset": config.dataset,
        "split": split.fingerprint,
        "seed": config["seed"],
        "checkpoint": checkpoint,
        "settings": settings_of(config),
    }
    save_comparison(
        rows,
        comparison_table(rows, config).github,
        provenance,
        Path(checkpoint).parent,
        break_lock=config["break_lock"],
    )
