"""FTDStudent: full topology distillation; any two of a batch's users and items are as alike as they are to the teacher.

Source: Kang, Hwang, Kweon, Yu, "Topology Distillation for Recommender System", KDD 2021, https://arxiv.org/abs/2106.08700.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.losses.topology import full_topology
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent


class FTDStudent(EmbeddingStudent):
    """L = L_base + weight * mean over pairs x, y of (cos(s_x, s_y) - cos(t_x, t_y))^2.

    x and y are all users and all items of the batch. The authors sum over the pairs; their weight would have to change
    with the size of the batch.
    """

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over pairs of the batch's users and items of the squared difference of their cosines."""
        sides = self.sides(batch)
        return full_topology(torch.cat([side.student for side in sides]), torch.cat([side.teacher for side in sides]))
