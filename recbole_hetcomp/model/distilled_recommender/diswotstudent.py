"""DisWOTStudent: users are related, and items ask for users, as they are and do to the teacher, whatever the widths.

Source: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023,
https://arxiv.org/abs/2303.15678. By the same two similarities `hetcomp search-student` ranks students.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.relations import gram_distance, relation_gram, semantic_gram
from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.model.item_sample import ItemSample, features_and_scores
from recbole_hetcomp.teachers.pool import TeacherPool


class DisWOTStudent(EmbeddingStudent):
    """L = L_base + weight * (relation_weight |G(P) - G(T)|^2 / B^2 + semantic_weight |G(C_S) - G(C_T)|^2 / n^2).

    G(X) are the products of all pairs of rows of X, each row of products of length 1. P and T are the vectors of up to
    `relation_users` of the batch's users, centred. C is the gradient of these users' cross-entropy over a fixed sample of n
    items by the items' vectors, each user having one training item of the sample as the class; of CML and ML by the points
    whose distances are the scores. Users and items of whom the teacher has no vector are in none of this.
    """

    families = ("general",)  # it relates users that have tables

    def check_trainable(self) -> None:
        """Raise a UserError also where both parts are off and the student has no loss of its own."""
        super().check_trainable()
        if not (self.config["relation_weight"] or self.config["semantic_weight"] or self.has_other_loss):
            raise UserError("relation_weight, semantic_weight and base_loss_weight: 0 leave nothing to learn; raise one")

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes the teacher's vectors, and draws the items that are classes."""
        super().learn_from(teachers)
        among = None if self.covered is None else self.covered.item
        self.sample = ItemSample.drawn(self.history, self.config["n_classes"], self.generator, among)
        self.classes = self.sample.items.to(self.device)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the weighted distances of the student's grams from the teacher's, of users and of items."""
        config = self.config
        known = batch.on_cpu.users if self.covered is None else self._known(batch.on_cpu.users, self.covered.user)
        chosen = some_of(known, config["relation_users"], self.generator)
        positives = to_device(self.sample.positives(chosen, self.generator), self.device)
        users = to_device(chosen, self.device)
        features, scores, points = features_and_scores(self.backbone, users, self.classes)
        with torch.autocast(self.device.type, enabled=False):  # distances are differences of products
            taught = self.teacher["user"][users]
            relation = gram_distance(relation_gram(features), relation_gram(taught))
            taught_scores = taught @ self.teacher["item"][self.classes].T
            of_student = semantic_gram(scores, features, positives, points)
            of_teacher = semantic_gram(taught_scores, taught, positives)
            semantic = gram_distance(of_student, of_teacher)
        return config["relation_weight"] * relation + config["semantic_weight"] * semantic
