"""The ensemble on the test part: from kept lists, or, of sequential data, from what each teacher says of a test instance.

The lists are of points of the training sequences. A sequential model is tested on a sequence that holds the validation item
too, so the teachers are asked for that one, as each of them is by itself.
"""

from __future__ import annotations

import copy

import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.evaluation.list_recommender import ListRecommender, of_ensemble
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.pool import Teacher, TeacherPool
from recbole_hetcomp.teachers.ranking import best_opinions, full_scores


def ensemble_on_test(config: Config, split: Split, pool: TeacherPool) -> ListRecommender:
    """The ensemble of the pool's final lists; where a teacher is sequential, of its ranking for the instance at hand."""
    if not any(teacher.load is not None and teacher.by_sequence for teacher in pool.teachers):
        return of_ensemble(config, copy.copy(split.train), pool)
    model = ListRecommender(config, copy.copy(split.train), _Live(config, split, pool))
    model.type = ModelType.SEQUENTIAL  # so that it gets instances
    return model


class _Live:
    """The candidates for RecBole's batch of instances."""

    def __init__(self, config: Config, split: Split, pool: TeacherPool) -> None:
        self.pool, self.seen, self.mask_seen = pool, [split.history, History.of(split.parts[1])], bool(config["mask_seen"])
        self.ensemble = Ensemble.from_config(pool, config, max_depth=config["trajectory_depth"])
        self.depth = min(int(config["trajectory_depth"]), split.history.n_items - 1)

    @torch.no_grad()
    def __call__(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """(items [X, B, L], importance [X, 1, L]) on the CPU."""
        items = torch.stack([self._listed(teacher, interaction) for teacher in self.pool.teachers])
        return items, self.ensemble.importance_of(torch.zeros(len(items), 1, self.depth))

    def _listed(self, teacher: Teacher, interaction: Interaction) -> Tensor:
        """[B, L] int64: what the teacher ranks first for the instances: as in kept lists, nothing that users have had."""
        users = interaction[teacher.rows.fields[0]].cpu() if teacher.rows is not None else torch.zeros(0)
        if teacher.load is None:
            listed = teacher.trajectory.items[-1, users, : self.depth].long()
            return torch.nn.functional.pad(listed, (0, self.depth - listed.size(1)))
        scores = teacher.model.full_sort_predict(interaction) if teacher.by_sequence else full_scores(teacher.model, users)
        scores = scores.view(len(users), -1).float().cpu()
        masked = self.mask_seen or not teacher.by_sequence  # to a general model what its users have had is no answer
        excluded = torch.cat([part.padded(users) for part in self.seen] if masked else [users[:, None] * 0], 1)
        return best_opinions(scores, excluded, self.depth)
