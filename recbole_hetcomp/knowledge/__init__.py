"""From the teachers' lists to what the student learns next: importance, ensemble, discrepancy, curriculum.

It is the method of Kang et al., "Distillation from Heterogeneous Models for Top-K Recommendation" (HetComp),
WWW 2023, without any recommender around it: tensors of item ids go in, tensors come out, and it imports torch alone.
"""

from __future__ import annotations

from recbole_hetcomp.knowledge.curriculum import RULES, Curriculum
from recbole_hetcomp.knowledge.discrepancy import RELEVANCES, discrepancy, position_weights
from recbole_hetcomp.knowledge.ensemble import ensemble_topk, observed_ranking
from recbole_hetcomp.knowledge.importance import power_importance, rank_importance

__all__ = [
    "RELEVANCES",
    "RULES",
    "Curriculum",
    "discrepancy",
    "ensemble_topk",
    "observed_ranking",
    "position_weights",
    "power_importance",
    "rank_importance",
]
