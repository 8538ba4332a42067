"""FitNetStudent: a projection of the student's vector of every user and item is the teacher's vector.

Source: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
https://arxiv.org/abs/1412.6550; for recommenders as the baseline of Kang et al., "DE-RRD", CIKM 2020.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent, squared_distance
from recbole_hetcomp.model.projectors import projector


class FitNetStudent(EmbeddingStudent):
    """L = L_base + weight * (mean over users |t_u - f(p_u)|^2 + mean over items |t_i - g(q_i)|^2).

    p, q are the student's vectors, t the teacher's, f, g the projectors. Where the student is a table and the projectors are
    affine, the best that can be reached is the principal component analysis of the teacher's table.
    """

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """A projector for the users and one for the items, with `hidden_ratio` x `width` hidden units."""
        return {name: projector(width, target, self.config["hidden_ratio"]) for name in ("user", "item")}

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean squared distance of projected vectors from the teacher's, users' and items' summed."""
        losses = [squared_distance(self.auxiliary[s.name](s.student), s.teacher).mean() for s in self.sides(batch)]
        return torch.stack(losses).sum()
