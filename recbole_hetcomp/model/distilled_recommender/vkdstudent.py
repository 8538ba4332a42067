"""VkDStudent: the student's vectors, rotated into the teacher's space by orthonormal maps, are the centred teacher's.

Source: Miles, Elezi, Deng, "VkD: Improving Knowledge Distillation using Orthogonal Projections", CVPR 2024,
https://arxiv.org/abs/2403.06213; for recommenders as in Zhu, Zhang, "Exploring Feature-based Knowledge Distillation for
Recommender System: A Frequency Perspective", KDD 2025.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent, squared_distance


class VkDStudent(EmbeddingStudent):
    """L = L_base + weight * (mean over users |t_u - mean t - P p_u|^2 + the same over items), with P^T P = 1.

    An orthonormal projector keeps all distances and angles, so it cannot do the learning in the student's place. The mean of
    the teacher's vectors is that of the batch. Where the student has more numbers a vector than the teacher, P P^T = 1.
    """

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """An orthonormal map for the users and one for the items."""
        return {name: _orthonormal(nn.Linear(width, target, bias=False)) for name in ("user", "item")}

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean squared distance of P p from the teacher's centred vectors, users' and items' summed."""
        losses = [
            squared_distance(self.auxiliary[side.name](side.student), centred(side.teacher)).mean()
            for side in self.sides(batch)
        ]
        return torch.stack(losses).sum()


def _orthonormal(linear: nn.Module) -> nn.Module:
    """With columns that stay orthonormal; not by torch's choice for square maps, which looks at numbers of the device."""
    return orthogonal(linear, orthogonal_map="householder")


def centred(rows: Tensor) -> Tensor:
    """[n, D] -> [n, D]: without the mean of the rows; a new tensor."""
    return rows - rows.mean(0)
