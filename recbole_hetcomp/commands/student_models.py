"""Untrained students of some shape, as they are before a training: counted, timed and scored, never trained."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import init_seed
from torch import Tensor, nn

from recbole_hetcomp.commands.student_space import Shape, Space
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.derived import derive
from recbole_hetcomp.config.registry import properties_of
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.fitting import set_ratios
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.model.backbone import embeddings_of
from recbole_hetcomp.trainer.building import build_model

INITS = ("sketch", "random")


class UntrainedStudents:
    """Makes untrained students, on the CPU.

    Args:
        config: of the run
        split: the data
        init: of their tables. sketch: random projections of the training matrix, which is all that is known of users and
            items before training; random: the models' own random tables, which know nothing of the data
    """

    def __init__(self, config: Config, split: Split, init: str = "sketch") -> None:
        self.config, self.split, self.init = config, split, init
        self._graph: Tensor | None = None

    def model(self, shape: Shape, seed: int) -> GeneralRecommender:
        """A student of the shape in evaluation mode, its tables filled as `init` says.

        Raises:
            UserError: a value is none that its setting may have, or the settings make no model.
        """
        made = self.plain(shape, seed)
        if self.init == "sketch":
            sketch_tables(made, self.split.history, seed)
        return made

    def plain(self, shape: Shape, seed: int) -> GeneralRecommender:
        """The same with the model's own random tables, which is quicker where the numbers in them do not matter."""
        own = self.config_of(shape, seed)
        init_seed(seed, own["reproducibility"])
        own.model_class = self._knowing_the_graph(own)
        made = build_model(own, self.split.train)
        if shape.model == "LightGCN":
            self._graph = made.norm_adj_matrix
        return made.eval()

    def config_of(self, shape: Shape, seed: int) -> Config:
        """The Config of a model of the shape, on the CPU. The process's GPUs stay as visible as they are."""
        own = derive(self.config, shape.model, shape.settings, seed=seed)
        own["device"] = torch.device("cpu")
        check_settings(own, f"space: {shape.model}: ")
        set_ratios(own, self.split)
        return own

    def of_the_run(self) -> Shape:
        """The shape of the student that the settings of the run name."""
        name = str(self.config["student"])
        path = properties_of(name)
        own = (self.config.read_yaml(path) or {}) if path is not None else {}
        return Shape(name, tuple((key, self.config[key]) for key in own if key in self.config))

    def check_vectors(self, space: Space) -> None:
        """Raise a UserError for the first model of `space` that has no vectors of users and items to compare."""
        seen: set[str] = set()
        for shape in space.one_a_value():
            if shape.model not in seen:
                embeddings_of(self.plain(shape, int(self.config["seed"])))
            seen.add(shape.model)

    def _knowing_the_graph(self, config: Config) -> type[GeneralRecommender]:
        """The model's class; of LightGCN, once there is one, one that takes over its graph, which depends on data alone."""
        found: type[GeneralRecommender] = config.model_class
        graph = self._graph
        if config.model != "LightGCN" or graph is None:
            return found
        return type(found.__name__, (found,), {"get_norm_adj_mat": lambda _: graph})


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
