"""The ways in: train and compare, benchmark, tune, search for a student, load, recommend, export, predict, find the odd."""

from __future__ import annotations

from recbole_hetcomp.commands.anomalies import find_anomalies
from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.commands.export import export_student
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.commands.predict import predict
from recbole_hetcomp.commands.student_search import search_student
from recbole_hetcomp.commands.teacher_tuning import tune_teachers
from recbole_hetcomp.commands.tuning import objective_function
from recbole_hetcomp.commands.vectors import write_vectors
from recbole_hetcomp.serving.new_users import recommend_for
from recbole_hetcomp.serving.recommending import recommend
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.teachers.vectors import EntityVectors

__all__ = [
    "EntityVectors",
    "export_student",
    "find_anomalies",
    "load_student",
    "objective_function",
    "predict",
    "recommend",
    "recommend_for",
    "run_benchmark",
    "run_hetcomp",
    "search_student",
    "tune_teachers",
    "write_vectors",
]
