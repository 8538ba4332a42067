"""The ways in: train and compare, benchmark, tune, load and recommend."""

from __future__ import annotations

from recbole_hetcomp.benchmark import run_benchmark
from recbole_hetcomp.pipeline import run_hetcomp
from recbole_hetcomp.serving import load_student, recommend
from recbole_hetcomp.tuning import objective_function

__all__ = ["load_student", "objective_function", "recommend", "run_benchmark", "run_hetcomp"]
