"""How alike an untrained student of some shape and the teacher see users and items: what students are ranked by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import init_seed
from torch import Tensor, nn

from recbole_hetcomp.commands.student_space import Shape
from recbole_hetcomp.config.config import Config, derive
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import Split, set_ratios
from recbole_hetcomp.knowledge.relations import gram_distance, relation_gram, semantic_gram
from recbole_hetcomp.knowledge.sampling import some_of
from recbole_hetcomp.model.item_sample import ItemSample, features_and_scores
from recbole_hetcomp.teachers.pool import Covered

INITS = ("sketch", "random")
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
        config: of the run; its DisWOT settings say how many users and items
        split: the data
        teacher: the teacher's vectors of users [U, D] and items [I, D]
        init: sketch: tables hold random projections of the training matrix, which is all that is known of users and items
            before training; random: the models' own random tables, which know nothing of the data
        covered: of whom the teacher's vectors are, and so who is compared; None = everybody
    """

    def __init__(
        self,
        config: Config,
        split: Split,
        teacher: tuple[Tensor, Tensor],
        init: str = "sketch",
        covered: Covered | None = None,
    ) -> None:
        self.config, self.split, self.init = config, split, init
        generator = torch.Generator().manual_seed(int(config["seed"]))
        sample = ItemSample.drawn(split.history, config["n_classes"], generator, None if covered is None else covered.item)
        having_one = sample.history.active_users
        if covered is not None:
            having_one = having_one[covered.user[having_one]]
        self.users, self.items = some_of(having_one, config["relation_users"], generator), sample.items
        self.positives = sample.positives(self.users, generator)
        of_users, of_items = (table.cpu() for table in teacher)
        taught = of_users[self.users]
        self.relation = relation_gram(taught)
        self.semantic = semantic_gram(taught @ of_items[self.items].T, taught, self.positives)
        self._graph: Tensor | None = None

    def model(self, shape: Shape, seed: int) -> GeneralRecommender:
        """An untrained model of the shape, its tables filled as `init` says.

        Raises:
            UserError: a value is none that its setting may have.
        """
        own = self.config_of(shape, seed)
        init_seed(seed, own["reproducibility"])
        made = self._class_of(shape.model)(settings_of(own), self.split.train)
        if shape.model == "LightGCN":
            self._graph = made.norm_adj_matrix
        if self.init == "sketch":
            sketch_tables(made, self.split.history, seed)
        return made.eval()

    def config_of(self, shape: Shape, seed: int) -> Config:
        """The Config of a model of the shape, on the CPU."""
        own = derive(self.config, shape.model, {**shape.settings, "use_gpu": False, "gpu_id": ""}, seed=seed)
        check_settings(own, f"space: {shape.model}: ")
        set_ratios(own, self.split)
        return own

    def _class_of(self, name: str) -> type[GeneralRecommender]:
        """The model's class; of LightGCN, once there is one, one that takes over its graph, which depends on data alone."""
        found, graph = get_model(name), self._graph
        if name != "LightGCN" or graph is None:
            return found
        return type(name, (found,), {"get_norm_adj_mat": lambda _: graph})

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
        seed = int(self.config["seed"])
        found = [self.distances_of(self.model(shape, seed + place)) for place in range(SEEDS)]
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


def sketch_tables(model: GeneralRecommender, history: History, seed: int) -> None:
    """Put random projections of the training matrix into every table of users or of items; layers stay as they are.

    Users get R W / sqrt(d), items R^T V / sqrt(d), for the training matrix R, divided by the roots of its row's and column's
    counts, and Gaussian W and V. The first numbers are the same for any size d. Where there are as many users as items, a
    table is of users if its name says so.
    """
    tables: list[tuple[str, Any]] = [named for named in model.named_modules() if isinstance(named[1], nn.Embedding)]
    for name, table in tables:
        count = table.num_embeddings
        if count in (history.n_users, history.n_items):
            of_items = count != history.n_users or (count == history.n_items and "user" not in name)
            with torch.no_grad():
                table.weight.copy_(projections(history, table.embedding_dim, seed, of_items=of_items))


def projections(history: History, size: int, seed: int, *, of_items: bool) -> Tensor:
    """[n, size] float32: `sketch_tables`' rows of all users, or of all items."""
    users, items = history.pairs // history.n_items, history.items
    counts = [
        torch.bincount(ids, minlength=n).clamp(min=1) for ids, n in ((users, history.n_users), (items, history.n_items))
    ]
    weights = (counts[0][users] * counts[1][items]).double().rsqrt()
    rows, columns, shape = users, items, (history.n_users, history.n_items)
    if of_items:
        rows, columns, shape = items, users, (history.n_items, history.n_users)
    matrix = torch.sparse_coo_tensor(torch.stack([rows, columns]), weights, shape, check_invariants=False)
    generator = torch.Generator().manual_seed(2 * seed + of_items)
    gaussian = torch.randn(size, shape[1], generator=generator, dtype=torch.float64).T
    return (torch.sparse.mm(matrix, gaussian) / size**0.5).float()
