"""The ways in: train and compare, benchmark, tune, load and recommend, find what is odd in the data."""

from __future__ import annotations

from recbole_hetcomp.commands.anomalies import find_anomalies
from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.commands.teacher_tuning import tune_teachers
from recbole_hetcomp.commands.tuning import objective_function
from recbole_hetcomp.serving.student import load_student, recommend

__all__ = [
    "find_anomalies",
    "load_student",
    "objective_function",
    "recommend",
    "run_benchmark",
    "run_hetcomp",
    "tune_teachers",
]
