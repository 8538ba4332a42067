"""A saved model without its teachers: loaded, asked for recommendations."""

from __future__ import annotations

from recbole_hetcomp.serving.student import load_student, recommend

__all__ = ["load_student", "recommend"]
