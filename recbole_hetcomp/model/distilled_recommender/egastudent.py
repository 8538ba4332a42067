"""EGAStudent: embedding graph alignment; a batch's users and items are the nodes of a graph, their correlations its edges.

Source: Ma, Chen, Akata, "Distilling Knowledge from Self-Supervised Teacher by Embedding Graph Alignment", BMVC 2022,
https://arxiv.org/abs/2211.13264. Interactions stand for labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.sampling import draw_outside
from recbole_hetcomp.losses.graph_alignment import edge_loss, node_floor, node_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent


class EGAStudent(EmbeddingStudent):
    """L = L_base + weight * (node_weight |C_ts - 1| + edge_weight |C_tt - C_ss|), C the correlations of a batch's nodes.

    Nodes are `n_nodes` users and items of the batch: the student's through a projector, the teacher's through an adapter,
    both affine. The adapter learns apart, by a BPR loss of its own, and no gradient of the alignment reaches it. A student
    of size d cannot bring the node loss below sqrt(n_nodes - d - 1); the log shows it beside this floor.
    """

    trains_apart = True

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.last: tuple[Tensor, Tensor, float] | None = None  # node loss, edge loss and floor of the last batch

    def check_trainable(self) -> None:
        """Raise a UserError also where both parts are off and the student has no loss of its own."""
        super().check_trainable()
        if not (self.config["node_weight"] or self.config["edge_weight"] or self.has_other_loss):
            raise UserError("node_weight, edge_weight and base_loss_weight: 0 leave nothing to learn; raise one of them")

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """The projector of the student's users and items."""
        return {"projector": nn.Linear(width, self.config["graph_size"])}

    def apart_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """The adapter of the teacher's users and items."""
        return {"adapter": nn.Linear(target, self.config["graph_size"])}

    def nodes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """([n, d] student's, [n, D] teacher's) vectors of some users and items of the batch, of each half of the nodes."""
        kind, n = self.config["graph_nodes"], self.config["n_nodes"]
        sides = [s for s in self.sides(batch, n // 2 if kind == "both" else n) if kind in ("both", s.name)]
        return torch.cat([side.student for side in sides]), torch.cat([side.teacher for side in sides])

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the weighted norms of what node and edge correlations lack, over n where `normalise`."""
        own, other = self.nodes(batch)
        student, teacher = self.auxiliary["projector"](own), self.apart["adapter"](other).detach()
        node, edge = node_loss(student, teacher), edge_loss(student, teacher)
        self.last = node.detach(), edge.detach(), node_floor(*own.shape)
        loss = self.config["node_weight"] * node + self.config["edge_weight"] * edge
        return loss / len(own) if self.config["normalise"] else loss

    def loss_apart(self, interaction: Interaction) -> Tensor:
        """[]: BPR of the adapted vectors' products over the batch's positives, each with a negative."""
        users, better, worse = (
            self.adapted(name, ids) for name, ids in zip(("user", "item", "item"), self.pairs(interaction))
        )
        return -logsigmoid((users * (better - worse)).sum(1)).sum() / max(len(users), 1)

    def adapted(self, name: str, ids: Tensor) -> Tensor:
        """[n, graph_size]: the teacher's vectors of `ids` [n] through the adapter."""
        adapted: Tensor = self.apart["adapter"](self.teacher[name][to_device(ids, self.device)])
        return adapted

    def pairs(self, interaction: Interaction) -> tuple[Tensor, Tensor, Tensor]:
        """(users, positives, negatives), each [n] on the CPU: the batch's own, and drawn for what it has none of.

        Without those of whom the teacher has no vector, and those for whom no negative was found.
        """
        users = interaction[self.USER_ID].cpu()
        if self.ITEM_ID not in interaction.columns:
            positives = self.history.drawn(users, self.generator)
        elif self.NEG_ITEM_ID in interaction.columns:
            return self._kept(users, interaction[self.ITEM_ID].cpu(), interaction[self.NEG_ITEM_ID].cpu())
        else:
            positives, label = interaction[self.ITEM_ID].cpu(), self.config["LABEL_FIELD"]
            if label in interaction.columns:
                wanted = interaction[label].cpu() > 0
                users, positives = users[wanted], positives[wanted]
        users, positives, _ = self._kept(users, positives, positives)
        nothing, n_items = torch.zeros(len(users), 0, dtype=torch.int64), self.n_items
        refused = partial(self._refused, users)
        return self._kept(users, positives, draw_outside(nothing, 1, n_items, self.generator, refused=refused)[:, 0])

    def _refused(self, users: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        """[m] bool: `items` [m] that are no negatives of `users[rows]` [m]."""
        trained = self.history.contains(users[rows], items)
        return trained if self.covered is None else trained | ~self.covered.item[items]

    def _kept(self, users: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of each [n] where all three are there, and known to the teacher."""
        kept = (positives > 0) & (negatives > 0)
        if self.covered is not None:
            kept &= self.covered.user[users] & self.covered.item[positives] & self.covered.item[negatives]
        return users[kept], positives[kept], negatives[kept]

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """For the log: the losses of the epoch's last batch, and the floor of the first."""
        if self.last is None:
            return ""
        node, edge, floor = self.last
        return f"nodes {node.item():.3f} (floor {floor:.3f}), edges {edge.item():.3f}"
