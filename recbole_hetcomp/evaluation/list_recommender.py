"""Lists as a RecBole model, so that an ensemble, or a teacher that is a file, is evaluated like any other model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.knowledge import ensemble_topk
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.pool import TeacherPool

Candidates = Callable[[Interaction], tuple[Tensor, Tensor]]


class ListRecommender(GeneralRecommender):
    """Scores the items of the lists by their place in the merger, those without importance below by their ranks.

    Args:
        candidates: RecBole's batch of B users -> (items [X, B, L], importance [X, B, L] or [X, 1, L]), on the CPU
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: Dataset, candidates: Candidates) -> None:
        super().__init__(config, dataset)
        self.candidates = candidates
        self.placeholder = nn.Parameter(torch.zeros(1))  # RecBole's Trainer wants something to optimise

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B, n_items]: minus an item's place among all that the lists hold; -inf for items of no list and the padding."""
        items, importance = self.candidates(interaction)
        n_teachers, _, depth = items.shape
        by_rank = (1 - torch.arange(depth) / depth).expand(n_teachers, 1, depth)
        scores = torch.full((items.size(1), self.n_items), -torch.inf)
        for start, worth in ((n_teachers * depth, by_rank), (0, importance)):  # the merger's places replace those by rank
            merged, _ = ensemble_topk(items, worth, n_teachers * depth)
            by_place = -torch.arange(start, start + merged.size(1), dtype=torch.float32).expand(merged.shape)
            scores.scatter_(1, merged, by_place)
        scores[:, 0] = -torch.inf  # where the empty places went
        return scores.to(self.device)

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the scores of (user, item) pairs, taken from those of all items."""
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)


def of_ensemble(config: Config, dataset: Dataset, pool: TeacherPool) -> ListRecommender:
    """The ensemble of the pool's final lists, to their full depth.

    Evaluation masks validation items, which may eat into the items that have an importance; those beyond follow by rank.
    """
    whole = Ensemble.from_config(pool, config, max_depth=config["trajectory_depth"])
    last = pool.n_stages - 1

    def candidates(interaction: Interaction) -> tuple[Tensor, Tensor]:
        users = interaction[dataset.uid_field].cpu()
        return whole.candidates(torch.full((len(pool), len(users)), last), users)

    return ListRecommender(config, dataset, candidates)
