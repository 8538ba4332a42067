"""DistilledContext: a small context-aware model that learns from others what its labels do not teach it.

A method of distillation for clicks is a subclass with one method, `distillation_loss`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.distilled import Distilled, on_device
from recbole_hetcomp.teachers.context import ContextTeachers, LogitsOf

SAMPLE = 4096  # training rows of which teachers are asked before the training


class OfClicks(AbstractRecommender):
    """What RecBole asks of a context-aware model. RecBole's own base class would make tables of all columns beside."""

    type = ModelType.CONTEXT
    input_type = InputType.POINTWISE

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__()
        self.device, self.LABEL = config["device"], config["LABEL_FIELD"]


class DistilledContext(Distilled, OfClicks):
    """Learns to predict clicks: a context-aware model as the backbone, and a loss against the teachers' logits.

    Attributes:
        teachers: asked for each batch; None before `learn_from` and after the training
        sample: up to SAMPLE training rows, for what has to be known of the teachers before the training
    """

    families: ClassVar[tuple[str, ...]] = ("context",)
    in_composite: ClassVar[bool] = False

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.teachers: ContextTeachers | None = None
        rows = torch.linspace(0, len(dataset) - 1, min(SAMPLE, len(dataset)), dtype=torch.float64).long()
        self.sample: Interaction | None = dataset[rows]
        self.logits = LogitsOf(self.backbone)

    def learn_from(self, teachers: ContextTeachers) -> None:
        """Keep the teachers, which are asked for each batch."""
        self.teachers = teachers

    def distillation_loss(self, interaction: Interaction) -> Tensor:
        """[]: the loss of a batch of rows on the student's device; `self.logits(interaction)` are the student's logits."""
        raise NotImplementedError

    def loss_of(self, interaction: Interaction) -> Tensor:
        """[]: the distillation loss of a batch on any device."""
        return self.distillation_loss(on_device(self.device, interaction))

    def teacher_logits(self, interaction: Interaction) -> Tensor:
        """[B]: the mean logit of the teachers for a batch on their device."""
        assert self.teachers is not None, "learn_from comes first"
        return self.teachers.logits(interaction)

    def sampled_logits(self) -> Tensor:
        """[N] the teachers' mean logits of the `sample`, on the student's device.

        Raises:
            UserError: they are not finite, or alike for all rows.
        """
        assert self.sample is not None, "only before the training"
        logits = self.teacher_logits(on_device(self.device, self.sample))
        if not bool(logits.isfinite().all()) or float(logits.var(correction=0)) == 0:
            raise UserError(
                f"teachers: {', '.join(self._names())} predict the same, or nothing, for all rows; train them longer, or "
                "search for their settings (--tune=12)"
            )
        return logits

    def _names(self) -> list[str]:
        return [teacher.name for teacher in self.teachers.teachers] if self.teachers is not None else []

    def finish_training(self) -> None:
        """Leave what is served: without teachers."""
        super().finish_training()
        self.teachers = self.sample = None

    def full_sort_predict(self, interaction: Interaction) -> Any:
        """Context-aware models score rows."""
        raise NotImplementedError
