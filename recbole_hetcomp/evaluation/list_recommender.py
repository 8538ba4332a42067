"""Lists as a RecBole model, so that an ensemble, or a teacher that is a file, is evaluated like any other model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.knowledge import ensemble_topk
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.pool import TeacherPool

TIE_BREAK = 1e-9  # of a rank, for items to which the importance gives nothing


class ListRecommender(GeneralRecommender):
    """Scores the items of a user's list by their place in the lists' merger, all others below.

    Args:
        candidates: users [B] -> (items [X, B, L], importance [X, B, L])
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Any, dataset: Dataset, candidates: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(config, dataset)
        self.candidates = candidates
        self.placeholder = nn.Parameter(torch.zeros(1))  # RecBole's Trainer wants something to optimise

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        items, importance = self.candidates(interaction[self.USER_ID].cpu())
        merged, _ = ensemble_topk(items, importance, items.size(0) * items.size(2))
        by_place = -torch.arange(merged.size(1), dtype=torch.float32).expand(merged.shape)  # no two items score the same
        scores = torch.full((len(merged), self.n_items), -torch.inf)
        return scores.scatter(1, merged, by_place.masked_fill(merged == 0, -torch.inf)).to(self.device)

    def predict(self, interaction: Interaction) -> Tensor:
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)


def of_ensemble(config: Any, dataset: Dataset, pool: TeacherPool) -> ListRecommender:
    """The ensemble of the pool's final lists, to their full depth.

    Evaluation masks validation items, which may eat into the items that have an importance; those beyond follow by rank.
    """
    whole = Ensemble.from_config(pool, config, max_depth=config["trajectory_depth"])

    def candidates(users: Tensor) -> tuple[Tensor, Tensor]:
        last = torch.full((len(pool), len(users)), pool.n_stages - 1)
        items, importance = whole.candidates(last, users)
        depth = items.size(-1)
        return items, importance.double() + TIE_BREAK * (depth - torch.arange(depth)).masked_fill(items == 0, 0)

    return ListRecommender(config, dataset, candidates)
