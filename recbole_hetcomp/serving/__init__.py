"""A saved model without its teachers: loaded, asked for recommendations."""

from __future__ import annotations

from recbole_hetcomp.serving.new_users import recommend_for
from recbole_hetcomp.serving.recommending import recommend
from recbole_hetcomp.serving.student import load_student

__all__ = ["load_student", "recommend", "recommend_for"]
