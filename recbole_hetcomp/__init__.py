"""Ranking distillation from heterogeneous teachers (HetComp, WWW 2023) for RecBole.

What people need can be imported from here; it is loaded when it is asked for, so that the import is quick.
"""

from __future__ import annotations

import importlib

from recbole_hetcomp import compat

__version__ = "0.1.0"

# Name -> its module. Not as imports: what a training imports shapes what it is cached under (teacher_training/source.py).
# `__init__.pyi` has them as imports, for editors and type checkers.
_HOMES = {
    **dict.fromkeys(
        (
            "EntityVectors",
            "find_anomalies",
            "load_student",
            "objective_function",
            "recommend",
            "run_benchmark",
            "run_hetcomp",
            "search_student",
            "tune_teachers",
            "write_vectors",
        ),
        "quick_start",
    ),
    "Config": "config",
    "UserError": "config.errors",
    "get_model": "config.registry",
    "write_report": "report",
    **dict.fromkeys(("Teacher", "TeacherPool", "Trajectory"), "teachers"),
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


compat.install()
