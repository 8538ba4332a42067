"""How alike an untrained student of some shape and the teacher see users and items: what students are ranked by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_hetcomp.commands.student_models import UntrainedStudents
from recbole_hetcomp.commands.student_space import Shape
from recbole_hetcomp.knowledge.relations import gram_distance, relation_gram, semantic_gram
from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.model.item_sample import ItemSample, features_and_scores
from recbole_hetcomp.teachers.pool import Covered

SEEDS = 3  # initialisations over which a shape's distances are averaged


@dataclass(frozen=True)
class Distances:
    """How far an untrained student is from the teacher; 0 where it sees everything as the teacher does.

    Attributes:
        relation: of the relations among users
        semantic: of what items ask of users
    """

    relation: float
    semantic: float


class StudentScorer:
    """Compares untrained students with the teacher on one fixed batch of users and one fixed sample of items.

    Args:
        students: makes them; the DisWOT settings of its Config say how many users and items are compared
        teacher: the teacher's vectors of users [U, D] and items [I, D]
        covered: of whom the teacher's vectors are, and so who is compared; None = everybody
    """

    def __init__(self, students: UntrainedStudents, teacher: tuple[Tensor, Tensor], covered: Covered | None = None) -> None:
        self.students, self.seed = students, int(students.config["seed"])
        config, history = students.config, students.split.history
        generator = torch.Generator().manual_seed(self.seed)
        sample = ItemSample.drawn(history, config["n_classes"], generator, None if covered is None else covered.item)
        having_one = sample.history.active_users
        if covered is not None:
            having_one = having_one[covered.user[having_one]]
        self.users, self.items = some_of(having_one, config["relation_users"], generator), sample.items
        self.positives = sample.positives(self.users, generator)
        of_users, of_items = (table.cpu() for table in teacher)
        taught = of_users[self.users]
        self.relation = relation_gram(taught)
        self.semantic = semantic_gram(taught @ of_items[self.items].T, taught, self.positives)

    @torch.no_grad()
    def distances_of(self, model: GeneralRecommender) -> Distances:
        """How far a model, as it is, is from the teacher.

        Raises:
            UserError: it has no vectors of users and items.
        """
        features, scores, points = features_and_scores(model, self.users, self.items)
        relation = gram_distance(relation_gram(features), self.relation)
        semantic = gram_distance(semantic_gram(scores, features, self.positives, points), self.semantic)
        return Distances(float(relation), float(semantic))

    def distances(self, shape: Shape) -> Distances:
        """The mean over SEEDS initialisations."""
        found = [self.distances_of(self.students.model(shape, self.seed + place)) for place in range(SEEDS)]
        return Distances(fmean(one.relation for one in found), fmean(one.semantic for one in found))


class Scale:
    """Makes one score of both distances: the larger, the nearer to the teacher.

    Each is taken in standard deviations from its mean over the shapes that it is calibrated by: one alone would decide a
    plain sum.
    """

    def __init__(self, calibration: Sequence[Distances]) -> None:
        parts: list[list[float]] = [[one.relation for one in calibration], [one.semantic for one in calibration]]
        self.means = [fmean(part) for part in parts]
        self.deviations = [pstdev(part) or 1.0 for part in parts]

    def score(self, distances: Distances) -> float:
        """-(z of the relations' distance + z of the semantic distance)."""
        values = (distances.relation, distances.semantic)
        return -sum((value - mean) / sd for value, mean, sd in zip(values, self.means, self.deviations))
