"""AdaRecSearchStudent: a network of few operations is searched, which is cheap and says what a deep sequential teacher says.

Source: Chen, Yuan, Yang, Yang, Li, "Scene-adaptive Knowledge Distillation for Sequential Recommendation via Differentiable
Architecture Search", 2021, https://arxiv.org/abs/2107.07173. The network is AdaRecNet; AdaRecStudent trains it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.transport import LayerTransport
from recbole_hetcomp.losses.divergence import divergence, layer_divergences, log_probabilities
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.layers import LAYERS, Computed, computed, layer_paths
from recbole_hetcomp.model.operations import COSTS, searched
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, Teacher, TeacherPool


class AdaRecSearchStudent(DistilledRecommender):
    """L = L_base + weight * (L_items + sum over layers of F_ij D_ij + KL of scores + efficiency_weight * cost of alpha).

    D_ij is the divergence of the student's cell i from the teacher's layer j, F the optimal transport between both.

    alpha learns in every `alpha_every`-th step, which computes all operations. The others compute the drawn ones alone.
    """

    needs = Needs(scores=True)
    families = ("sequential",)
    user_by_user = False  # BatchNorm, and a transport of the whole batch
    in_composite = False
    decides = ("architecture",)

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        names = [str(name) for name in config["teachers"]]
        if len(names) != 1 or names[0] not in LAYERS:
            raise UserError(
                f"teachers: {config['model']} learns the layers of one sequential model, not of {shown(names)}; choose "
                f"one of {', '.join(LAYERS)}"
            )
        if config["architecture"] is not None:
            raise UserError(
                f"architecture: {config['model']} searches one; leave it out, or train {shown(config['architecture'])} by "
                "AdaRecStudent with start_from: ~"
            )
        costs = torch.tensor([COSTS[name] for name in self.backbone.names])
        self.costs = costs.to(config["device"])
        self.teacher: Teacher | None = None
        self.transport: LayerTransport | None = None
        self.steps = 0  # in this epoch

    @classmethod
    def settings_for_next(cls, config: Config, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The architecture that a search of `config` with this result has found: each edge's most probable operation."""
        names = searched(config["adarec_ops"])
        return {"architecture": [names[place] for place in state["backbone.alpha"].argmax(1).tolist()]}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The operations' logits have a learning rate and a decay of their own, unless this is plain training."""
        if not self.distillation_weight:
            return []
        config = self.config
        return [
            {"params": [self.backbone.alpha], "lr": config["alpha_learning_rate"], "weight_decay": config["alpha_decay"]}
        ]

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher, and makes the maps from the student's vectors and cells to those of the teacher."""
        (self.teacher,) = teachers.teachers
        with torch.random.fork_rng():  # the model is built here
            model = self.teacher.model
            torch.manual_seed(int(self.config["seed"]))
            assert isinstance(self.history, Sequences)
            taught = computed(model, self.history.asked(self.history.active_users[:1].to(self.device)))
            size = self.backbone.item_embedding.embedding_dim
            targets = {"of_items": taught.items.size(-1), "of_cells": taught.layers[0].size(-1)}
            self.auxiliary.update({name: nn.Linear(size, target) for name, target in targets.items()})
        self.auxiliary.to(self.device)
        n_cells, n_layers = len(self.backbone.cells), len(layer_paths(model))
        self.transport = LayerTransport(n_cells, n_layers, self.config["emd_every"])
        getLogger().info(f"{self.teacher.name} has {n_layers} layers, the student {n_cells} cells")

    def on_epoch_start(self, epoch: int) -> None:
        """Lowers the temperature of the draws, which differ less and less from the most probable operations."""
        self.steps = 0
        if self.distillation_weight:
            self.backbone.temperature = self.config["gumbel_decay"] ** (epoch // self.config["gumbel_period"])

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, Tensor]:
        """The losses of a step, in which alpha learns or does not."""
        if not self.distillation_weight:
            return super().calculate_loss(interaction)
        self.backbone.computes_all = self.steps % self.config["alpha_every"] == 0
        self.steps += 1
        with self.backbone.one_draw():
            return super().calculate_loss(interaction)

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """The architecture so far, and how sure it is: the mean entropy of an edge's operations, in nats."""
        shares = self.backbone.alpha.detach().softmax(1)
        entropy = float(-(shares * shares.log()).sum(1).mean())
        return f"{' '.join(self.backbone.derived())}, entropy {entropy:.2f}"

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: of the batch's rows, for which the teacher is asked now: all its layers of all rows would not fit anywhere."""
        assert self.teacher is not None, "learn_from comes first"
        assert isinstance(self.history, Sequences)
        net, asked = self.backbone, self.history.asked(batch.users)
        taught = computed(self.teacher.model, asked)
        sequences, lengths = asked[net.ITEM_SEQ], asked[net.ITEM_SEQ_LEN]
        cells = net.states(sequences, lengths)
        scores = net.output(cells, lengths) @ net.item_embedding.weight.T
        valid = torch.arange(sequences.size(1), device=sequences.device) < lengths[:, None]
        loss = self.of_scores(scores, taught.scores) + self.of_items(sequences, valid, taught)
        loss = loss + self.of_layers(cells, taught.layers, taught.known)
        return loss + self.config["efficiency_weight"] * self.cost()

    def cost(self) -> Tensor:
        """[]: what the edges are expected to cost, the sum over edges of the operations' costs with their probabilities.

        It moves alpha in the steps alone in which the other terms do.
        """
        alpha = self.backbone.alpha if self.backbone.computes_all else self.backbone.alpha.detach()
        return (alpha.softmax(1) * self.costs).sum()

    def of_scores(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[]: the mean divergence between the softmaxes of scores [B, n_items], without the padding item."""
        present = torch.ones_like(student[:, 1:], dtype=torch.bool)
        log_p, log_q = (log_probabilities(scores[:, 1:].float(), present) for scores in (teacher, student))
        return divergence(log_p, log_q, present, self.config["adarec_kl"]).mean()

    def of_items(self, sequences: Tensor, valid: Tensor, taught: Computed) -> Tensor:
        """[]: the mean squared difference between the mapped vectors of the sequences' items and the teacher's."""
        mapped = self.auxiliary["of_items"](self.backbone.item_embedding(sequences))
        weights = valid / (valid.sum() * taught.items.size(-1))
        return (mse_loss(mapped, taught.items, reduction="none") * weights[..., None]).sum()

    def of_layers(self, cells: list[Tensor], layers: list[Tensor], valid: Tensor) -> Tensor:
        """[]: the cost of the transport from the student's cells to the teacher's layers; the plan is a constant."""
        assert self.transport is not None
        mapped = [self.auxiliary["of_cells"](cell) for cell in cells]
        divergences = layer_divergences(mapped, layers, valid, self.config["adarec_kl"])
        plan = to_device(self.transport.step(divergences), self.device)
        return (plan.to(divergences.dtype) * divergences).sum()

    def distillation_state(self) -> dict[str, Any]:
        """Of the transport among the layers."""
        return {} if self.transport is None else self.transport.state_dict()

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from there; raises a ValueError for a state of other layers."""
        assert self.transport is not None
        self.transport.load_state_dict(state)
