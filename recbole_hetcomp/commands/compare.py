"""The comparison that ends a run: teachers, ensemble, student without and with distillation, on the test part."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import Loaders, Split
from recbole_hetcomp.evaluation.comparison import Row, add_fidelity, model_row, save_comparison, table, teacher_rows
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teacher_training.alone import student_alone
from recbole_hetcomp.teacher_training.cache import settings_of
from recbole_hetcomp.teachers.pool import TeacherPool


def compare_with_teachers(
    config: Config,
    split: Split,
    loaders: Loaders,
    pool: TeacherPool,
    model: DistilledRecommender,
    result: dict[str, Any],
) -> list[Row]:
    """The rows of the comparison, printed, and saved beside the checkpoint where there is one."""
    rows = teacher_rows(pool, config, split, loaders)
    metric, sign = config["valid_metric"].lower(), 1 if config["valid_metric_bigger"] else -1
    ensemble, best = rows[-1], max(sign * row[metric] for row in rows[:-1])
    if sign * ensemble[metric] < best:
        getLogger().warning("the ensemble is below its best teacher: leave weak teachers out, or raise teacher_weighting")
    students = {"student": (f"{config.model} ({config['student']})", model)}
    if config["without_distillation"]:
        students = {"student without distillation": (config["student"], student_alone(config, split)), **students}
    for role, (name, student) in students.items():
        row = model_row(role, name, student, config, split, loaders)
        add_fidelity(row, student, pool, ensemble, config, split)
        rows.append(row)
    of = {row["role"]: sign * row[metric] for row in rows}
    if of["student"] < of.get("student without distillation", of["student"]):
        getLogger().warning(
            "the student is below the one without distillation: let it train longer (epochs, stopping_step; "
            "train_batch_size where an epoch has few steps), or change distillation_weight where it has a loss of its own"
        )
    if result["checkpoint"]:
        provenance = {
            "dataset": config.dataset,
            "split": split.fingerprint,
            "seed": config["seed"],
            "checkpoint": result["checkpoint"],
            "settings": settings_of(config),
        }
        text = table(rows, config["valid_metric"]).github
        save_comparison(rows, text, provenance, Path(result["checkpoint"]).parent)
    return rows
