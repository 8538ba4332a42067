"""A student whose vectors are mapped to the teacher's by experts, chosen entity by entity: what DE, PCKD and HTD share.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from recbole_hetcomp.model.embedding_student import EmbeddingStudent, Side
from recbole_hetcomp.model.projectors import Experts, annealed, gumbel_softmax


class ExpertStudent(EmbeddingStudent):
    """Projects a vector by sum_e z_e f_e(p), z = softmax((log c + Gumbel noise) / temperature), c = softmax(W t).

    The temperature falls from epoch to epoch, so that z comes near a draw of one expert.
    """

    epoch = 0

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """`n_experts` experts with their gate for the users, and as many for the items."""
        return {name: Experts(width, target, self.config["n_experts"]) for name in ("user", "item")}

    def on_epoch_start(self, epoch: int) -> None:
        """Notes the epoch, by which the gate's temperature falls."""
        self.epoch = epoch

    @property
    def temperature(self) -> float:
        """Of the gate in this epoch."""
        ends = self.config["gate_temperature"], self.config["gate_temperature_end"]
        return annealed(*ends, self.epoch, self.config["annealing_epochs"])

    def experts_of(self, side: Side) -> Experts:
        """The experts, and their gate, for the vectors of a side."""
        return cast(Experts, self.auxiliary[side.name])

    def projected(self, side: Side) -> Tensor:
        """[n, D]: the experts' mixture for the vectors of a side."""
        experts = self.experts_of(side)
        weights = gumbel_softmax(experts.gate_logits(side.teacher), self.temperature, self.generator)
        return experts(side.student, weights)
