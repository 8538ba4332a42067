"""TinTeMStudent: the student points where a map of the teacher's vectors that keeps their cosines points.

Source: Mannix, Hodgkinson, Bondell, "Preserving Angles Improves Feature Distillation", TMLR 2025,
https://arxiv.org/abs/2411.15239, whose first version called the map a teacher in the middle. Users and items stand for
images; that inner products are made cosines first is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize, pad

from recbole_hetcomp.knowledge.cosine_head import augmented, fit_head
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.teachers.pool import TeacherPool

AGREED = 1e-6  # of 1 - cosine: what is left is rounding, of which Adam would make whole steps


class TinTeMStudent(EmbeddingStudent):
    """L = L_base + weight * mean over users and items of 1 - cos(s, h(t)), without L_base unless it is asked for.

    h is linear, one for users and items, and is fitted before training: it minimises KL(P || Q) of the pairs' cosines at ten
    temperatures, and the student has no part in it. With `norm: mips` the teacher's vectors get a dimension in which cosines
    rank as inner products do. Where the student is two tables, the minimum is h(t) / |h(t)| itself, which is written into
    them (`mode: copy`); the loss then holds them there.

    h is no part of a run's progress: like the teacher's vectors, to which it belongs, it is found again by a resumed run, to
    the last bit. It depends on these vectors and the seed alone.
    """

    @property
    def writes_tables(self) -> bool:
        """Whether directions are copied, which needs tables."""
        return bool(self.distillation_weight) and self._tables() is not None

    def _tables(self) -> dict[str, Tensor] | None:
        return self.own_tables("mode", {"copy": True, "gradient": False}.get(self.config["mode"]))

    def learn_from(self, teachers: TeacherPool) -> None:
        """Fits h to the teacher's vectors, and writes the directions into the student's tables where it has such."""
        super().learn_from(teachers)
        known = {side: self.known_to_teacher(side) for side in ("user", "item")}
        points = {side: self.teacher[side][known[side]] for side in known}
        if self.config["norm"] == "mips":
            points["user"], points["item"] = augmented(points["user"], points["item"])
        tables = self._tables()
        self.head = fit_head(
            points["user"],
            points["item"],
            self.width,
            self.generator,
            steps=self.config["head_steps"],
            n_points=self.config["head_points"],
            learning_rate=self.config["head_learning_rate"],
            cross_weight=self.config["cross_weight"],
        )
        self.directions = {}
        for side, rows in points.items():
            mapped = normalize(rows @ self.head, dim=1)
            found = torch.zeros(len(self.teacher[side]), self.width, device=self.device)
            found[known[side]] = pad(mapped, (0, self.width - mapped.size(1)))
            self.directions[side] = found
            if tables is not None and self.distillation_weight:  # else it is plain training
                with torch.no_grad():
                    tables[side][known[side]] = found[known[side]]

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean of 1 - cosine over the batch's users and items; 0 where that is rounding."""
        away = [1 - cosine_similarity(side.student, self.directions[side.name][side.ids]) for side in self.sides(batch)]
        return (torch.cat(away) - AGREED).relu().mean()
