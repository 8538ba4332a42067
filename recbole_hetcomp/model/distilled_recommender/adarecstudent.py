"""AdaRecStudent: the network that AdaRecSearchStudent has found, trained on with the parameters that it found there.

Source: Chen, Yuan, Yang, Yang, Li, "Scene-adaptive Knowledge Distillation for Sequential Recommendation via Differentiable
Architecture Search", 2021, https://arxiv.org/abs/2107.07173.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.losses.divergence import divergence, log_probabilities
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


class AdaRecStudent(DistilledRecommender):
    """L = L_base + weight * mean over users of the divergence between softmax(t) and softmax(s) over all items."""

    needs = Needs(scores=True)
    families = ("sequential",)
    user_by_user = False  # BatchNorm
    in_composite = False

    def check_trainable(self) -> None:
        """Raise a UserError also where nothing says which network this is."""
        if self.config["architecture"] is None and self.config["start_from"] is None:
            raise UserError(
                "architecture: AdaRecStudent trains one network, and none is given; name an operation for each edge, or "
                "write start_from: AdaRecSearchStudent"
            )
        super().check_trainable()

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teachers as one, whose scores are asked for with each batch."""
        self.teacher = SingleTeacher.from_config(teachers, self.history, self.config)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's rows, without the padding item."""
        student, teacher = self.scores(batch.users), self.teacher.scores(batch.users).to(self.device)
        present = torch.ones_like(student[:, 1:], dtype=torch.bool)
        log_p, log_q = (log_probabilities(scores[:, 1:].float(), present) for scores in (teacher, student))
        return divergence(log_p, log_q, present, self.config["adarec_kl"]).mean()
