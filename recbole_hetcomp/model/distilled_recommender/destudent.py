"""DEStudent: distillation experts; which of several projectors makes up the teacher's vector is chosen entity by entity.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import squared_distance
from recbole_hetcomp.model.expert_student import ExpertStudent


class DEStudent(ExpertStudent):
    """L = L_base + weight * (mean over users |t_u - sum_e z_e f_e(p_u)|^2 + the same over items).

    z nearly chooses one expert f_e for each entity; see model/expert_student.py.
    """

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean squared distance of the experts' mixture from the teacher's vector, users' and items' summed."""
        losses = [squared_distance(self.projected(side), side.teacher).mean() for side in self.sides(batch)]
        return torch.stack(losses).sum()
