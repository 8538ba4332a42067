"""One table: every teacher, the ensemble, the student without and with distillation; what each gives and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.evaluator import smaller_metrics
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.config import Config
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.split import Loaders, Split
from recbole_hetcomp.evaluation.efficiency import (
    SAMPLE,
    milliseconds_per_thousand,
    n_parameters,
    ranking_milliseconds,
    serving_bytes,
)
from recbole_hetcomp.evaluation.live_ensemble import ensemble_on_test
from recbole_hetcomp.evaluation.on_test import on_test
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.locks import held
from recbole_hetcomp.knowledge import discrepancy, ensemble_topk
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.pool import Teacher, TeacherPool
from recbole_hetcomp.teachers.ranking import top_unobserved

FIDELITY_K = 50
COLUMNS = (
    "role",
    "model",
    "params",
    "size_mb",
    "ms_per_1000_users",
    "fidelity",
    "retention",
    "trials",
)  # all else is a metric
Row = dict[str, Any]


def model_row(
    role: str,
    name: str,
    model: AbstractRecommender,
    config: Config,
    split: Split,
    loaders: Loaders,
    users: dict[str, np.ndarray] | None = None,
) -> Row:
    """A model's metrics, size and speed; `users` takes up each top-k metric user by user."""
    history = split.asked_at_the_end(model)
    return {
        "role": role,
        "model": name,
        **on_test(model, config, split, loaders, users),
        "params": n_parameters(model),
        "size_mb": serving_bytes(model) / 2**20,
        "ms_per_1000_users": ranking_milliseconds(asked_by(model, history), history, max_block_mb=config["max_block_mb"]),
    }


def teacher_rows(
    pool: TeacherPool, config: Config, split: Split, loaders: Loaders, users: dict[str, np.ndarray] | None = None
) -> list[Row]:
    """A row for each teacher, and one for their ensemble, which costs what all of them cost and the merging.

    `users` takes up each top-k metric of the ensemble user by user.
    """
    rows = [_teacher_row(teacher, config, split, loaders) for teacher in pool.teachers]
    ensemble = ensemble_on_test(config, split, pool)
    merging = _merging_milliseconds(pool, config, split.history.active_users[:SAMPLE])
    costs = {key: _sum(row[key] for row in rows) for key in ("params", "size_mb", "ms_per_1000_users")}
    if costs["ms_per_1000_users"] is not None:
        costs["ms_per_1000_users"] += merging
    name = "1 teacher" if len(pool) == 1 else f"{len(pool)} teachers"
    rows.append(
        {
            "role": "ensemble",
            "model": name,
            **on_test(ensemble, config, split, loaders, users),
            **costs,
        }
    )
    for teacher in pool.teachers:
        teacher.release()
    return rows


def _teacher_row(teacher: Teacher, config: Config, split: Split, loaders: Loaders) -> Row:
    if teacher.load is not None:
        row = model_row("teacher", teacher.name, teacher.model, config, split, loaders)
        teacher.release()
        return row
    lists = ensemble_on_test(config, split, TeacherPool([teacher]))
    costs = dict.fromkeys(("params", "size_mb", "ms_per_1000_users"))  # not known of a file
    return {
        "role": "teacher",
        "model": teacher.name,
        **on_test(lists, config, split, loaders),
        **costs,
    }


def _merging_milliseconds(pool: TeacherPool, config: Config, users: torch.Tensor) -> float:
    """Milliseconds to merge the teachers' lists for 1,000 users, the lists being there."""
    last = torch.full((len(pool), len(users)), pool.n_stages - 1)
    candidates = Ensemble.from_config(pool, config).candidates(last, users)
    return milliseconds_per_thousand(lambda: ensemble_topk(*candidates, FIDELITY_K)[0], len(users))


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum, or None where one of the values is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def final_lists(pool: TeacherPool, config: Config, split: Split) -> torch.Tensor:
    """[A, FIDELITY_K] int32 on the CPU: what the ensemble of the final teachers would recommend to the active users."""
    users = split.history.active_users
    last = torch.full((len(pool), len(users)), pool.n_stages - 1)
    return Ensemble.from_config(pool, config).topk(FIDELITY_K, last, users)


def add_fidelity(
    row: Row, model: AbstractRecommender, theirs: torch.Tensor, ensemble: Row, config: Config, split: Split
) -> torch.Tensor:
    """Add to a student's row how near it comes to the ensemble, whose `final_lists` are `theirs`.

    `fidelity` is 1 - D@50, graded by both ranks, between the two top-50 lists outside the training items, a mean over
    users; `retention` holds the `retention` of each metric.

    Returns:
        [A, FIDELITY_K] int32: what the student would recommend to the active users
    """
    history = split.asked_at_the_end(model)
    lists = top_unobserved(asked_by(model, history), history, FIDELITY_K, max_block_mb=config["max_block_mb"])
    ours = lists[split.history.active_users]
    row["fidelity"] = 1 - float(discrepancy(ours, theirs, k=FIDELITY_K, relevance="graded").mean())
    row["retention"] = {name: retention(name, row[name], ensemble[name]) for name in metric_names(ensemble)}
    return ours


def retention(metric: str, student: float, ensemble: float) -> float | None:
    """What share of the ensemble's quality a student has by a metric; None where it is divided by 0."""
    share, whole = (ensemble, student) if smaller_is_better(metric) else (student, ensemble)
    return share / whole if whole else None


def smaller_is_better(metric: str) -> bool:
    """Whether RecBole's metric, such as `logloss` or `averagepopularity@10`, is the better the smaller it is."""
    return metric.partition("@")[0].lower() in smaller_metrics


def metric_names(row: Row) -> list[str]:
    """The metrics of a row, in its order."""
    return [name for name in row if name not in COLUMNS]


def table(rows: Sequence[Row], valid_metric: str) -> Table:
    """The rows as a table; retention is that of the metric that models are selected by.

    `trials` is how many settings were tried for a training, shown where any were searched for.
    """
    metrics, searched = metric_names(rows[0]), any(row.get("trials") for row in rows)
    headers = [
        "role",
        "model",
        *metrics,
        "params",
        "MB",
        "ms / 1,000 users",
        "fidelity",
        f"retention {valid_metric.lower()}",
        *(["trials"] if searched else []),
    ]
    cells = [
        [
            row["role"],
            row["model"],
            *(f"{row[name]:.4f}" for name in metrics),
            _text(row["params"], ","),
            _text(row["size_mb"], ".2f"),
            _text(row["ms_per_1000_users"], ".1f"),
            _text(row.get("fidelity"), ".3f"),
            _text((row.get("retention") or {}).get(valid_metric.lower()), ".3f"),
            *([_text(row.get("trials"), "d")] if searched else []),
        ]
        for row in rows
    ]
    dispensable = [
        *(["trials"] if searched else []),
        "MB",
        "ms / 1,000 users",
        *_less_telling(metrics, valid_metric.lower()),
        "fidelity",
        "params",
        "role",
    ]
    return Table(headers, cells, n_left=2, dispensable=dispensable)


def _less_telling(metrics: Sequence[str], selected_by: str) -> list[str]:
    """The metrics beside `selected_by`: first those of its kind at other depths, last the first one of another kind."""
    others = [name for name in reversed(metrics) if name != selected_by]
    return sorted(others, key=lambda name: name.partition("@")[0] != selected_by.partition("@")[0])


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def save_comparison(
    rows: Sequence[Row], text: str, provenance: Mapping[str, object], folder: Path, *, break_lock: bool = False
) -> None:
    """`comparison.md` and `comparison.json` in `folder`, both of this run."""
    content = json.dumps({**provenance, "rows": list(rows)}, indent=1, default=str)
    with held(folder / "comparison.json", folder, "written", break_lock=break_lock):
        write(folder / "comparison.md", text + "\n")
        write(folder / "comparison.json", content + "\n")
