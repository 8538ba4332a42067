"""DERRDStudent: distillation experts for the embeddings and relaxed ranking distillation for the lists, together.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

from recbole_hetcomp.model.distilled_recommender.compositestudent import CompositeStudent


class DERRDStudent(CompositeStudent):
    """L = L_base + weight of DE * L_DE + weight of RRD * L_RRD; the weights are in `methods`."""
