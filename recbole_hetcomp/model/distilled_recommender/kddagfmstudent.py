"""KDDAGFMStudent: a cheap context-aware model that imitates the logits of others, and is then finetuned on the clicks.

Source: Tian, Bai, Zhang, Zhao, Wen, "Directed Acyclic Graph Factorization Machines for CTR Prediction via Knowledge
Distillation", WSDM 2023, https://arxiv.org/abs/2211.11159. Any context-aware models may teach here, several by their mean
logit, and any may be the student. The weight of the logits follows from their spread, and the student has tables of its own
unless `share_tables` asks for a teacher's, as the paper has it.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.context_student import DistilledContext
from recbole_hetcomp.model.distilled import on_device
from recbole_hetcomp.teachers.context import ContextTeachers

# RecBole's names of the vectors of columns, which all its context-aware models have
TABLES = ("token_embedding_table", "float_embedding_table", "token_seq_embedding_table", "float_seq_embedding_table")
FIRST_ORDER = "first_order_linear"


def _read_by(model: AbstractRecommender, rows: Interaction) -> set[str]:
    """Names of the parameters that predictions depend on: LR and FFM have tables which they never read, nor train."""
    own = dict(model.named_parameters())
    learns = [parameter.requires_grad for parameter in own.values()]
    with torch.enable_grad():
        model.requires_grad_(True)
        found = torch.autograd.grad(model.predict(rows).sum(), list(own.values()), allow_unused=True)
    for parameter, before in zip(own.values(), learns):
        parameter.requires_grad_(before)
    return {name for name, gradient in zip(own, found) if gradient is not None and bool(gradient.any())}


class KDDAGFMStudent(DistilledContext):
    """For `distil_epochs` the loss is ctr_weight * BCE + logit_weight * (teacher's logit - student's)^2, then BCE alone.

    With `share_tables` the tables of the columns are those of a teacher of the same size, and do not learn before the
    finetuning.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.distil_epochs = int(config["distil_epochs"])
        self.shared: frozenset[str] = frozenset()  # names of the backbone's parameters that a teacher's are copied to
        self.distilling = self._distils_in(0)
        self.register_buffer("logit_weight", torch.tensor(float(config["logit_weight"] or 0.0)), persistent=False)

    def check_trainable(self) -> None:
        """As ever; besides the finetuning needs an epoch."""
        super().check_trainable()
        if self.base_loss_weight and self.distillation_weight and self.distil_epochs >= self.config["epochs"]:
            raise UserError(
                f"distil_epochs: {self.distil_epochs} leaves no epoch for the finetuning; lower it below epochs "
                f"({self.config['epochs']}), or write base_loss_weight: 0 for none"
            )

    def learn_from(self, teachers: ContextTeachers) -> None:
        """Weigh the logits by their spread, and begin with the tables of a teacher that has learnt them."""
        super().learn_from(teachers)
        if not self.distillation_weight:
            return
        logits = self.sampled_logits()
        if self.config["logit_weight"] is None:
            self.logit_weight.fill_(1 / logits.var(correction=0))
        if self.config["share_tables"]:
            self._share(teachers)

    def _share(self, teachers: ContextTeachers) -> None:
        own = dict(self.backbone.named_parameters())
        tables = {name for name in own if name.startswith(TABLES)}
        others = {name for name in own if not name.startswith((*TABLES, FIRST_ORDER))}
        for teacher in teachers.teachers if others else ():  # a student of tables alone would have nothing to learn
            theirs = dict(teacher.model.named_parameters())
            if not all(name in theirs and theirs[name].shape == own[name].shape for name in tables):
                continue
            read = _read_by(teacher.model, on_device(self.device, self.sample))
            if tables <= read:
                self._copy(theirs, tables | {name for name in own if name.startswith(FIRST_ORDER) and name in read})
                self.shared = frozenset(tables)
                getLogger().info(f"{self.config['student']} begins with the tables of {teacher.name}")
                return
        why = "no teacher reads tables of the student's size" if others else "the student has no parameters but its tables"
        getLogger().info(f"share_tables: {why}; it learns its own from the start")

    @torch.no_grad()
    def _copy(self, theirs: dict[str, nn.Parameter], names: set[str]) -> None:
        for name, parameter in self.backbone.named_parameters():
            if name in names and parameter.shape == theirs[name].shape:
                parameter.copy_(theirs[name])

    def on_epoch_start(self, epoch: int) -> None:
        """Distillation or finetuning: by the epoch alone, so that a resumed training is in the same one."""
        self.distilling = self._distils_in(epoch)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(not (self.distilling and name in self.shared))

    def _distils_in(self, epoch: int) -> bool:
        return bool(self.distillation_weight) and (epoch < self.distil_epochs or not self.base_loss_weight)

    def base_loss(self, interaction: Interaction) -> Tensor:
        """The student's own loss, which counts less while it is distilled."""
        loss = super().base_loss(interaction)
        return float(self.config["ctr_weight"]) * loss if self.distilling else loss

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, Tensor]:
        """[]: in the finetuning the student's own loss alone; before it also the distillation loss."""
        if self.distilling:
            return super().calculate_loss(interaction)
        return self.base_loss_weight * self.base_loss(interaction)

    def distillation_loss(self, interaction: Interaction) -> Tensor:
        """[]: the weighted mean square between the teachers' mean logit and the student's."""
        return self.logit_weight * mse_loss(self.logits(interaction), self.teacher_logits(interaction))

    @property
    def phase(self) -> str:
        """Which phase the training is in."""
        return "distillation" if self.distilling else "finetuning"

    def after_validation(self, score: float, epoch: int, ranking: Any) -> str:
        """The phase, for the log."""
        return self.phase

    @property
    def may_stop_early(self) -> bool:
        """False until the finetuning, where there is one."""
        return not (self.distilling and self.base_loss_weight)

    def finish_training(self) -> None:
        """Leave what is served, all of it trainable again."""
        super().finish_training()
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(True)
