"""CUKDStudent: the student starts from a teacher that never saw its data, and is trained by its own loss from there.

Source: Reddy, Dubey, Sanodiya, Karn, "Context Unaware Knowledge Distillation for Image Retrieval", CVMI 2022,
https://arxiv.org/abs/2207.09070. Another data set, domain or period of the same users or items stands for another context,
and ranking for retrieval by hash codes.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from torch import Tensor, nn
from torch.nn.functional import pad

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.knowledge.principal import principal_directions
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent, squared_distance
from recbole_hetcomp.model.general_recommender.cml import CML
from recbole_hetcomp.teachers.pool import TeacherPool


class CUKDStudent(EmbeddingStudent):
    """L = L_base + weight * anchor(epoch) * (mean over users |t_u - e_u P|^2 + mean over items |t_i - e_i P|^2).

    Before training e and P minimise the sum of |t - e P|^2 over all users and items of whom the teacher has a vector, with
    one P for both, since inner products mean nothing otherwise; then P is fixed. Where the student is two tables, that is a
    principal component analysis without a centre (`solver: pca`); else steps of Adam find it (`sgd`). `anchor` falls from
    `anchor_weight` to 0 in `anchor_epochs` epochs. Teachers are best files of vectors; any others will do.

    P is no part of a run's progress: like the teacher's vectors, to which it belongs, it is found again by a resumed run, to
    the last bit. It depends on these vectors, the seed and the student's first parameters alone.
    """

    families = ("general",)  # its start is written into tables of users
    projection: Tensor  # P [d, D]
    anchor = 0.0

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        if self.distillation_weight and isinstance(self.backbone, CML):
            raise UserError(
                f"student: {config['student']} scores by distances in the unit ball, where the lengths of the teacher's "
                "vectors, which rank items, are lost; choose MF"
            )

    @property
    def writes_tables(self) -> bool:
        """Whether the start is a closed form, which needs tables."""
        return bool(self.distillation_weight) and self._tables() is not None

    def check_trainable(self) -> None:
        """Raise a UserError also where the anchor alone would train, and is not there, or not to the end."""
        super().check_trainable()
        if self.has_other_loss:
            return
        if not self.config["anchor_weight"]:
            raise UserError("anchor_weight: 0 and base_loss_weight: 0 leave nothing to learn; raise one of them")
        if self.config["epochs"] > self.config["anchor_epochs"]:
            raise UserError(
                f"anchor_epochs: {self.config['anchor_epochs']} of {self.config['epochs']} epochs leave nothing to learn "
                "afterwards with base_loss_weight: 0; raise one of them"
            )

    def learn_from(self, teachers: TeacherPool) -> None:
        """Puts the student where it explains the teacher's vectors best; with a weight of 0 it stays where it was."""
        super().learn_from(teachers)
        self.known = {side: self.known_to_teacher(side) for side in ("user", "item")}
        tables = self._tables()
        if not self.distillation_weight:
            return
        if tables is None:
            self.projection = self._fit()
            return
        everything = torch.cat([self.teacher[side][ids] for side, ids in self.known.items()])
        directions = principal_directions(everything, self.width)  # [D, d']
        self.projection = pad(directions, (0, self.width - directions.size(1))).T.contiguous()
        with torch.no_grad():
            for side, ids in self.known.items():  # numbers beyond the teacher's stay as they are
                tables[side][ids, : directions.size(1)] = self.teacher[side][ids] @ directions
            if self.config["fill"]:
                self._fill(tables)

    def on_epoch_start(self, epoch: int) -> None:
        """Sets the weight of the anchor."""
        self.anchor = self.config["anchor_weight"] * max(0.0, 1 - epoch / self.config["anchor_epochs"])

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: anchor times the mean squared distances from the teacher's vectors, users' and items' summed."""
        losses = [squared_distance(side.student @ self.projection, side.teacher).mean() for side in self.sides(batch)]
        return self.anchor * torch.stack(losses).sum()

    def _tables(self) -> dict[str, Tensor] | None:
        return self.own_tables("solver", {"pca": True, "sgd": False}.get(self.config["solver"]))

    def _fit(self) -> Tensor:
        """[d, D] P; the student's parameters, and P with them, after `start_steps` steps of Adam over all that is known."""
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(int(self.config["seed"]))
            projection = nn.Linear(self.width, self.teacher["user"].size(1), bias=False).to(self.device)
            parameters = [*self.backbone.parameters(), *projection.parameters()]
            steps = self.config["start_steps"]
            optimizer = torch.optim.Adam(parameters, lr=self.config["start_learning_rate"])
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
            for _ in range(steps):
                optimizer.zero_grad()
                users, items = self.embeddings()
                own = {"user": users, "item": items}
                distances = [
                    squared_distance(projection(own[side][ids]), self.teacher[side][ids]) for side, ids in self.known.items()
                ]
                torch.cat(distances).mean().backward()
                optimizer.step()
                schedule.step()
            optimizer.zero_grad()
        self.forget_evaluation()
        return projection.weight.detach().T.contiguous()

    def _fill(self, tables: dict[str, Tensor]) -> None:
        """Gives each user and item without a teacher's vector the mean of the training neighbours that have one, if any."""
        items, users = self.history.items.to(self.device), self.history.pairs.to(self.device) // self.n_items
        known = {side: torch.zeros(len(tables[side]), device=self.device) for side in tables}
        for side, ids in self.known.items():
            known[side][ids] = 1.0
        before = {side: table.clone() for side, table in tables.items()}
        for side, other, own, neighbours in (("user", "item", users, items), ("item", "user", items, users)):
            counted = known[other][neighbours]
            counts = torch.zeros_like(known[side]).index_add_(0, own, counted)
            totals = torch.zeros_like(before[side]).index_add_(0, own, before[other][neighbours] * counted[:, None])
            empty = (known[side] == 0) & (counts > 0)
            tables[side][empty] = totals[empty] / counts[empty, None]
