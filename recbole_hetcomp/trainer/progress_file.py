"""The progress of a training: written before an epoch, as often as it costs little, and read when the training goes on.

What such a file may hold is checked by `progress.py`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files.archive import CheckpointError
from recbole_hetcomp.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_hetcomp.trainer.entity_batches import EntityBatches
from recbole_hetcomp.trainer.progress import check_progress
from recbole_hetcomp.trainer.random_state import random_state, restore_random_state

LEAST_PAUSE = 1.0  # seconds between two writes: what a killed training loses at most, beside its last epoch
TIMES_A_WRITE = 10.0  # or as many times what the last write took: at most a tenth of the time goes into progress


class ProgressFile:
    """The file of one training, and when it is due.

    Args:
        path: of the file
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended, self.took = -math.inf, 0.0  # the last write, in seconds

    def is_due(self) -> bool:
        """Whether a write is worth its time again."""
        return monotonic() - self.ended >= pause_after(self.took)

    def write(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Writes what `state` makes; an older file stays until the new one is whole."""
        begun = monotonic()
        save_checkpoint(self.path, state())
        self.ended = monotonic()
        self.took = self.ended - begun


def pause_after(seconds: float) -> float:
    """Seconds from the end of a write that took `seconds` to the next one."""
    return max(LEAST_PAUSE, TIMES_A_WRITE * seconds)


def progress_of(trainer: Trainer, epoch: int, batches: AbstractDataLoader | EntityBatches) -> dict[str, Any]:
    """Everything that the training depends on from the start of `epoch` on, as `check_progress` expects it."""
    best = trainer.best_valid_result
    return {
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "best_valid_result": None if best is None else {key: float(value) for key, value in best.items()},
        "best": trainer.best,
        "state_dict": trainer.model.state_dict(),
        "distillation": trainer.model.distillation_state(),
        "optimizer": trainer.optimizer.state_dict(),
        "optimizer_apart": None if trainer.optimizer_apart is None else trainer.optimizer_apart.state_dict(),
        "batches": batches.generator.get_state(),
        "random": random_state(),
        "method_random": trainer.model.generator.get_state(),
    }


def resume_from(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Gives `trainer` the state in the file; returns the states of the generators, for `restore_generators`.

    Raises:
        UserError: the file cannot be read, or holds what this training cannot have come to
    """
    remedy = "delete the file, or set resume: False, to train from the start"
    try:
        state = load_checkpoint(path, map_location=trainer.device)
    except (CheckpointError, OSError) as error:
        raise UserError(f"resume: {error}; {remedy}") from error
    try:
        check_progress(state, trainer)
        _restore(state, trainer)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"resume: {path} is no progress of this training ({reason}); {remedy}") from error
    return {name: state[name] for name in ("batches", "random", "method_random")}


def _restore(state: Mapping[str, Any], trainer: Trainer) -> None:
    trainer.model.load_state_dict(state["state_dict"])
    trainer.model.load_distillation_state(state["distillation"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.optimizer_apart is not None:
        trainer.optimizer_apart.load_state_dict(state["optimizer_apart"])
    trainer.start_epoch, trainer.cur_step = state["epoch"], state["cur_step"]
    trainer.best_valid_score, trainer.best_valid_result = state["best_valid_score"], state["best_valid_result"]
    trainer.best = on_cpu(state["best"])


def restore_generators(state: Mapping[str, Any], trainer: Trainer, batches: AbstractDataLoader | EntityBatches) -> None:
    """The draws of the first epoch after a resume begin here: RecBole's fit has drawn nothing before it."""
    batches.generator.set_state(state["batches"].cpu())
    restore_random_state(state["random"])
    trainer.model.generator.set_state(state["method_random"].cpu())


def on_cpu(value: Any) -> Any:
    """A copy of plain values and tensors, the tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: on_cpu(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(on_cpu, value))
    return copy.deepcopy(value)
