"""The losses of HetComp as pure functions: scores and item ids go in, one number a user comes out; torch alone.

Source: Kang et al., "Distillation from Heterogeneous Models for Top-K Recommendation" (HetComp), WWW 2023.
"""

from __future__ import annotations

from recbole_hetcomp.losses.adaptive_transfer import fine_ranking_loss, overall_ranking_loss
from recbole_hetcomp.losses.catalogue import Catalogue, Dense, ShortList, log_mass
from recbole_hetcomp.losses.plackett_luce import plackett_luce_loss, relaxed_ranking_loss, unordered_loss
from recbole_hetcomp.losses.sampling import Sampled
from recbole_hetcomp.losses.streaming import Vectors

__all__ = [
    "Catalogue",
    "Dense",
    "Sampled",
    "ShortList",
    "Vectors",
    "fine_ranking_loss",
    "log_mass",
    "overall_ranking_loss",
    "plackett_luce_loss",
    "relaxed_ranking_loss",
    "unordered_loss",
]
