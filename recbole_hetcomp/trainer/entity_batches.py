"""Training on batches of entities (users, or items), each exactly once an epoch.

RecBole's loaders yield interactions, so that an entity is met once per interaction. List-wise losses and auto-encoders
learn from an entity's whole row instead: HetComp's student from a user's ranked list, ItemVAE from an item's column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from torch import Tensor


class EntityBatches:
    """Shuffled batches of entity ids, in RecBole's form of a loader.

    Args:
        field: the id field that the batches carry, `user_id` or `item_id` in most datasets
        ids: [N] int64, the entities to visit; never the padding id 0
        batch_size: entities a batch
        seed: of the generator that shuffles; nothing is drawn from the global stream
    """

    def __init__(self, field: str, ids: Tensor, batch_size: int, seed: int) -> None:
        self.field = field
        self.ids = ids
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.shuffle = False  # RecBole asks it of a loader's distributed sampler; the shuffling here is our own

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[Interaction]:
        order = torch.randperm(len(self.ids), generator=self.generator)
        for part in self.ids[order].split(self.batch_size):
            yield Interaction({self.field: part})


class EntityTrainer(Trainer):
    """RecBole's Trainer for a model that learns from whole rows: `model.training_entities` is `(field, ids)`.

    `train_batch_size` counts entities here. The interactions that `fit` is given serve evaluation statistics only.
    """

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        field, ids = model.training_entities
        self.batches = EntityBatches(field, ids, config["train_batch_size"], config["seed"])

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[..., Tensor | tuple[Tensor, ...]] | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        return super()._train_epoch(self.batches, epoch_idx, loss_func=loss_func, show_progress=show_progress)
