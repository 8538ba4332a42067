"""ML: metric learning as a student. CML's distances, stretched so that a softmax over the catalogue can be sharp.

Source: Hsieh et al., "Collaborative Metric Learning", WWW 2017, https://doi.org/10.1145/3038912.3052639. HetComp publishes
no scoring for its metric-learning student. The same group's ConCF (Kang et al., WWW 2022) code has a factor of 10; the
default here, 20, is chosen on validation parts of ml-100k.
"""

from __future__ import annotations

from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.losses.streaming import Vectors, squared_distance_vectors
from recbole_hetcomp.model.general_recommender.cml import CML, unit_ball


class ML(CML):
    """score(u, i) = -score_scale * |u - v|^2 with |u|, |v| <= 1; trained as CML when it learns alone.

    Squared distances in the unit ball span [0, 4]: without the factor, a softmax over 25,000 items hardly separates them.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.score_scale = config["score_scale"]

    def vectors(self, users: Tensor) -> Vectors:
        """Users [B] and all items as vectors whose inner products are the scores."""
        points = unit_ball(self.user_embedding(users)), unit_ball(self.item_embedding.weight)
        return squared_distance_vectors(*points, scale=self.score_scale)

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: -score_scale * |u - v|^2 of a batch of pairs."""
        return self.score_scale * super().predict(interaction)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: -score_scale * |u - v|^2 of the batch's users and all items, user by user."""
        return self.score_scale * super().full_sort_predict(interaction)
