"""Teachers: trained by RecBole, recorded on the way, kept as lists."""

from __future__ import annotations

from recbole_hetcomp.teachers.pool import Needs, Teacher, TeacherPool
from recbole_hetcomp.teachers.trajectory import Trajectory

__all__ = ["Needs", "Teacher", "TeacherPool", "Trajectory"]
