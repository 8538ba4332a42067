"""The comparison that ends a run: teachers, ensemble, student without and with distillation, on the test part."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.commands.teachers import Teachers
from recbole_hetcomp.config import Config
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.split import Loaders, Split
from recbole_hetcomp.evaluation.comparison import Row, add_fidelity, model_row, save_comparison, table, teacher_rows
from recbole_hetcomp.evaluation.ctr import click_rows, click_table
from recbole_hetcomp.model.distilled import Distilled
from recbole_hetcomp.teacher_training.alone import student_alone
from recbole_hetcomp.teacher_training.cache import settings_of
from recbole_hetcomp.teacher_training.tuning import trials_of
from recbole_hetcomp.teachers.context import ContextTeachers


def compare_with_teachers(
    config: Config,
    split: Split,
    loaders: Loaders,
    teachers: Teachers,
    model: Distilled,
    result: dict[str, Any],
) -> list[Row]:
    """The rows of the comparison, saved beside the checkpoint where there is one."""
    students: dict[str, tuple[str, AbstractRecommender]] = {"student": (f"{config.model} ({config['student']})", model)}
    if config["without_distillation"]:
        students = {"student without distillation": (config["student"], student_alone(config, split)), **students}
    if isinstance(teachers, ContextTeachers):
        rows = click_rows(teachers, students, config, loaders)
    else:
        rows = teacher_rows(teachers, config, split, loaders)
        for role, (name, student) in students.items():
            row = model_row(role, name, student, config, split, loaders)
            add_fidelity(row, student, teachers, rows[len(teachers)], config, split)
            rows.append(row)
    _add_trials(rows, config, split)
    sign, clicks = 1 if config["valid_metric_bigger"] else -1, isinstance(teachers, ContextTeachers)
    for line in disappointments(rows, config["valid_metric"].lower(), sign, clicks=clicks):
        getLogger().warning(line)
    if result["checkpoint"]:
        _save(rows, config, split, result["checkpoint"])
    return rows


def comparison_table(rows: Sequence[Row], config: Config) -> Table:
    """The rows of a comparison as a table."""
    return click_table(rows) if config.family == "context" else table(rows, config["valid_metric"])


def _add_trials(rows: Sequence[Row], config: Config, split: Split) -> None:
    """Add to each row how many trials the settings of its training were searched with, where any were."""
    counts = trials_of(config, split)
    alone = counts.get(f"{config['student']} without distillation", 0)
    of_role = {"student without distillation": alone, "student": config.trials}
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
