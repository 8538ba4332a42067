"""A training that is interrupted, for tests of what the next run makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recbole.data.dataloader import AbstractDataLoader

from recbole_hetcomp.trainer.distillation import DistillationTrainer


def interrupt(run: Callable[[], object], after: int) -> None:
    """Calls `run`, which trains a student, and interrupts it after so many epochs, before it is validated."""
    train_epoch = DistillationTrainer._train_epoch

    def stopping(trainer: DistillationTrainer, data: AbstractDataLoader, epoch: int, **settings: Any) -> object:
        loss = train_epoch(trainer, data, epoch, **settings)
        if epoch + 1 == after:
            raise KeyboardInterrupt
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillationTrainer, "_train_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            run()
