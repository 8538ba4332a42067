"""Ranking distillation from heterogeneous teachers (HetComp, WWW 2023) for RecBole."""

from recbole_hetcomp import compat

__version__ = "0.1.0"

compat.install()
