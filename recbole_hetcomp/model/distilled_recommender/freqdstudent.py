"""FreqDStudent: projected vectors match the teacher's after both have passed a low-pass filter on graphs of like entities.

Source: Zhu, Zhang, "Exploring Feature-based Knowledge Distillation for Recommender System: A Frequency Perspective", KDD
2025, https://arxiv.org/abs/2411.10676.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.similarity_graph import SimilarityGraph, common_neighbours
from recbole_hetcomp.losses.topology import unit_rows
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent, squared_distance
from recbole_hetcomp.model.projectors import projector
from recbole_hetcomp.teachers.pool import TeacherPool

BLOCK = 512  # users or items whose common interactions with all others are counted at once


class FreqDStudent(EmbeddingStudent):
    """L = L_base + weight * (mean over users dist((H f(P))_u, (H T)_u) + the same over items).

    H = share A + (1 - share) 1, with A the normalised graph of the nearest neighbours by common interactions, anew thinned
    out in every batch; dist is 1 - cosine, or the squared distance. Where the share is 0 that is FitNet.
    """

    families = ("general",)  # two rows of one user would be each other's neighbours

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's vectors, and makes graphs of users and of items, `n_neighbours` nearest for each."""
        super().learn_from(teachers)
        self.require_all_vectors()  # filters mix the vectors of neighbours
        history, k = self.history, self.config["n_neighbours"]
        users, shape = history.pairs // history.n_items, (history.n_users, history.n_items)
        self.graphs = {
            "user": SimilarityGraph.of(common_neighbours(users, history.items, shape, k, BLOCK)),
            "item": SimilarityGraph.of(common_neighbours(history.items, users, shape[::-1], k, BLOCK)),
        }

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """A projector for the users and one for the items, with `hidden_ratio` x `width` hidden units."""
        return {name: projector(width, target, self.config["hidden_ratio"]) for name in ("user", "item")}

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean distance of filtered projected vectors from the teacher's filtered ones, users' and items' summed."""
        ids = {"user": batch.on_cpu.users, "item": self.items_of(batch)}
        settings = self.config["neighbour_share"], self.config["edge_keep"]
        found = {name: self.graphs[name].low_pass(ids[name], *settings, self.generator) for name in ids}
        losses = []
        for side in self.sides(Batch(found["user"][0], found["item"][0])):
            low_pass = found[side.name][1].moved(partial(to_device, device=self.device))
            own, other = low_pass @ self.auxiliary[side.name](side.student), low_pass @ side.teacher
            losses.append(distances(own, other, self.config["distance"]).mean())
        return torch.stack(losses).sum()


def distances(x: Tensor, y: Tensor, kind: str) -> Tensor:
    """[n, D], [n, D] -> [n]: 1 - cos(x, y), or with kind "squared" |x - y|^2."""
    return squared_distance(x, y) if kind == "squared" else 1 - (unit_rows(x) * unit_rows(y)).sum(1)
