"""The evaluation of sequential models: instances ranked over all items, with what their users have had masked.

RecBole masks nothing there, since to its sequential models a repeat is data. Models of both families are compared here, so
all are asked for what is new (`mask_seen: True`); with `mask_seen: False` sequential ones are tested as RecBole tests them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from torch import Tensor

from recbole_hetcomp.data.history import History


class RankedInstances(FullSortEvalDataLoader):
    """RecBole's loader of instances that hands on, as an instance's history, what its user has had in earlier parts.

    `eval_batch_size` counts pairs of an instance and an item, as RecBole has it for general models. For sequential ones it
    counts instances there, and a batch's scores may be larger than the memory.

    Args:
        given, options: RecBole's own
        seen: the interactions of the earlier parts; none: nothing is masked
    """

    def __init__(self, *given: Any, seen: Sequence[History], **options: Any) -> None:
        self.seen = seen
        super().__init__(*given, **options)

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, int(self.config["eval_batch_size"]) // int(self._dataset.item_num))
        self.set_batch_size(self.step)

    def collate_fn(self, index: Sequence[int]) -> tuple[Any, tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """(instances, (row, item) of what is masked, row and item of the positives)."""
        interaction, history, row, positive = super().collate_fn(index)
        if not self.seen:
            return interaction, history, row, positive
        had = torch.cat([part.padded(interaction[self.uid_field]) for part in self.seen], 1)  # [B, H]
        masked, place = ((had > 0) & (had != positive[:, None])).nonzero(as_tuple=True)
        return interaction, (masked, had[masked, place]), row, positive
