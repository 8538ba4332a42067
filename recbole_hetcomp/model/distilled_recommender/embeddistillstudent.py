"""EmbedDistillStudent: the student's vectors match the teacher's, on an item side that may be the teacher's own.

Source: Kim, Rawat, Zaheer, Jayasumana, Sadhanala, Jitkrittum, Menon, Fergus, Kumar, "EmbedDistill: A Geometric Knowledge
Distillation for Information Retrieval", 2023, https://arxiv.org/abs/2301.12005. Users stand for queries, items for
documents, spectral factors of the scores for cross-encoders, and changed histories for generated queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import users_per_block
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.pseudo_users import nearest_neighbours, packed, perturbed, ridge_fold_in
from recbole_hetcomp.losses.soft_targets import soft_label_loss
from recbole_hetcomp.model.backbone import HasHistories
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.candidate_student import CandidateStudent
from recbole_hetcomp.model.embedding_student import squared_distance
from recbole_hetcomp.model.functional_tables import Folded, FunctionalTables
from recbole_hetcomp.teachers.pool import TeacherPool

NEIGHBOURS_BLOCK = 1024  # items whose cosines with all items are held at once
BLOCK_MB = 64  # of vectors of histories' items held at once


class EmbedDistillStudent(FunctionalTables, CandidateStudent):
    """L = L_base + weight * (a L_score + b L_user + c L_item + g L_pseudo), each a mean over its entities.

    L_score = cross-entropy of the teacher's and the student's softmax over a training item, items of the teacher's list and
    other items; L_user = |t_u - e_u W|, L_item = |t_i - e_i W'|; L_pseudo = |t_h - e_h W| for changed histories h: t_h by
    ridge regression against the teacher's items, e_h likewise, or by the student's own encoder (`fold_in_to_own`).

    `side: symmetric` has an item table of its own. `side: asymmetric` keeps the teacher's items T: the student's are T W^T,
    which is d numbers an item and serves as an ordinary table, since <e_u W, t_i> = <e_u, W t_i>. W alone is learnt of it.
    """

    families = ("general",)  # a made-up user has no order of items

    def check_trainable(self) -> None:
        """Raise a UserError also where all parts of the distillation loss are off."""
        super().check_trainable()
        sides = ["user"] if self.config["side"] == "asymmetric" else ["user", "item"]
        names = [f"{part}_weight" for part in ("score", *sides, "pseudo")]
        if self.distillation_weight and not any(self.config[name] for name in names):
            raise UserError(
                f"{', '.join(names)}: 0 leave nothing to distil with side: {self.config['side']}; raise one of them, or set "
                "distillation_weight: 0 for plain training"
            )

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes vectors and lists, finds items' neighbours for pseudo-users; if asymmetric, the item table becomes T W^T."""
        self.asymmetric = self.config["side"] == "asymmetric"
        super().learn_from(teachers)
        if self.config["pseudo_weight"]:
            found = nearest_neighbours(self.teacher["item"], self.config["pseudo_neighbours"], NEIGHBOURS_BLOCK)
            self.neighbours = found.cpu()
            if isinstance(self.backbone, HasHistories):
                self.to_own = self.fold_in_to_own()
        if self.asymmetric and self.distillation_weight:  # else it is plain training, with a table of its own
            self._require_inner_products()
            self.make_functional("item_embedding", Folded(self.teacher["item"]))

    def auxiliary_modules(self, width: int, target: int) -> Mapping[str, nn.Module]:
        """W and W', or one map for both; none if asymmetric, where W is in the item table."""
        if self.asymmetric:
            return {}
        names = ["user"] if self.config["shared_projection"] else ["user", "item"]
        return {name: nn.Linear(width, target, bias=False) for name in names}

    def projected(self, name: str, rows: Tensor) -> Tensor:
        """[n, D]: vectors [n, d] of users or items in the teacher's space."""
        if self.asymmetric:
            return rows @ self.backbone.item_embedding.parametrizations.weight.original  # W [d, D]
        return self.auxiliary[name if name in self.auxiliary else "user"](rows)

    # ---- the losses ---------------------------------------------------------------------------------------------------

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: a L_score + b L_user + c L_item + g L_pseudo; without L_item if asymmetric, where the item sides are one."""
        config = self.config
        weights = {"user": config["user_weight"], "item": 0.0 if self.asymmetric else config["item_weight"]}
        total = torch.zeros((), device=self.device)
        for side in self.sides(batch):
            if weights[side.name]:
                matched = distances(self.projected(side.name, side.student), side.teacher, config["distance"]).mean()
                total = total + weights[side.name] * matched
        if config["score_weight"]:
            total = total + config["score_weight"] * self.score_loss(batch)
        if config["pseudo_weight"]:
            total = total + config["pseudo_weight"] * self.pseudo_loss(batch.on_cpu.users)
        return total

    def score_loss(self, batch: Batch) -> Tensor:
        """[]: the cross-entropy over fresh candidates of the batch's users, a mean over them.

        The teacher's scores are standardised user by user, so that the temperature means the same for any teacher.
        """
        users, candidates = batch.users, to_device(self.candidates(batch.on_cpu.users), self.device)
        of_student = self.pair_scores(users, candidates) / self.config["score_temperature"]
        return soft_label_loss(of_student, self.teacher_scores(users, candidates), candidates > 0).mean()

    def pseudo_loss(self, users: Tensor) -> Tensor:
        """[]: the mean distance of made-up users, a share of `users` [B], which are on the CPU."""
        histories = self.pseudo_users(users)
        histories = histories[(histories > 0).any(1)]  # whoever has lost all items is nobody
        if not len(histories):
            return torch.zeros((), device=self.device)
        histories = to_device(histories, self.device)
        present, ridge = histories > 0, self.config["pseudo_ridge"]
        target = ridge_fold_in(self.teacher["item"][histories], present, ridge)
        if isinstance(self.backbone, HasHistories):
            own, target = self.backbone.encode(histories), target @ self.to_own
        else:
            own = ridge_fold_in(self.embeddings()[1][histories], present, ridge)
        return distances(self.projected("user", own), target, self.config["distance"]).mean()

    def fold_in_to_own(self) -> Tensor:
        """[D, D]: the map that takes regressions on histories nearest to the teacher's own vectors, over all users.

        A student that encodes histories learns both, from pseudo-users and from users: they have to be of one space.
        """
        left, right = torch.zeros(2, size := self.teacher["item"].size(1), size, dtype=torch.float64, device=self.device)
        for users in self.history.active_users.split(users_per_block(self.history.longest * size, BLOCK_MB)):
            histories = self.history.padded(users).to(self.device)
            folded = ridge_fold_in(self.teacher["item"][histories], histories > 0, self.config["pseudo_ridge"]).double()
            left += folded.T @ folded
            right += folded.T @ self.teacher["user"][users.to(self.device)].double()
        return (torch.linalg.pinv(left, hermitian=True) @ right).to(self.teacher["user"])

    def pseudo_users(self, users: Tensor) -> Tensor:
        """[b, H] int64, 0 = no item: changed histories of a share of `users` [B]."""
        config, active = self.config, self.history.active_users
        size = math.ceil(config["pseudo_share"] * len(users))
        chosen = users[torch.randperm(len(users), generator=self.generator)[:size]]
        others = active[torch.randint(len(active), chosen.shape, generator=self.generator)]
        own, mixed_in = self.history.padded(torch.cat([chosen, others])).split(size)
        chances = {name: config[f"pseudo_{name}"] for name in ("drop", "replace", "mix")}
        return packed(perturbed(own, mixed_in, self.neighbours, self.generator, **chances))

    def _require_inner_products(self) -> None:
        self.require_plain("item_embedding")
        users = self.history.active_users[:8].to(self.device)
        with torch.no_grad():
            of_users, of_items = self.embeddings(users)
            same = of_items is self.backbone.item_embedding.weight and torch.allclose(
                of_users @ of_items.T, self.scores(users), rtol=1e-3, atol=1e-5
            )
        if not same:
            name = type(self.backbone).__name__
            raise UserError(
                f"side: asymmetric needs scores that are products of tables, unlike {name}'s; choose MF, or symmetric"
            )


def distances(x: Tensor, y: Tensor, kind: str) -> Tensor:
    """[n, D], [n, D] -> [n]: |x - y|, the metric of the paper's bound, or with kind "squared" its square."""
    return squared_distance(x, y) if kind == "squared" else (x - y).norm(dim=1)
