"""Recording a training: snapshots of a model's top lists while RecBole trains it, and the checkpoints chosen from them.

Source: the trajectories of Kang et al., "Distillation from Heterogeneous Models for Top-K Recommendation", WWW 2023. The
authors publish neither how teachers are trained nor when their four checkpoints are taken; both rules below are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from safetensors import safe_open
from torch import Tensor

from recbole_hetcomp.teacher_training.top_lists import TopLists
from recbole_hetcomp.teachers.trajectory import rank_deviation, save_tensors
from recbole_hetcomp.trainer.checkpoint import plain_state

USERS_PER_BLOCK = 2**15  # users whose lists are compared at once


class Snapshots:
    """Top lists taken while a model trains, cached in a folder until checkpoints are chosen from them.

    Args:
        folder: an existing folder, for this training alone
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[int] = []
        self.scores: list[float] = []

    def take(self, epoch: int, score: float, lists: Tensor) -> None:
        """Keep the lists [U, L] int32 of the model after `epoch` epochs."""
        save_tensors({"items": lists}, self._file(epoch))
        self.epochs.append(epoch)
        self.scores.append(score)

    def _file(self, epoch: int) -> str:
        return str(self.folder / f"epoch-{epoch:06d}.safetensors")

    def rows(self, epoch: int, start: int = 0, stop: int | None = None) -> Tensor:
        """[stop - start, L] the lists of some users; the rest of the file stays on disk."""
        with safe_open(self._file(epoch), framework="pt") as file:
            return file.get_slice("items")[start:stop]

    def clear(self) -> None:
        """Remove the files."""
        for epoch in self.epochs:
            Path(self._file(epoch)).unlink()


def epoch_fractions(epochs: Sequence[int], scores: Sequence[float], fractions: Sequence[float]) -> list[int]:
    """Indices of the snapshots nearest to the given fractions of the last epoch, the earlier one of two equally near."""
    return [min(range(len(epochs)), key=lambda i: (abs(epochs[i] - part * epochs[-1]), i)) for part in fractions]


def score_fractions(epochs: Sequence[int], scores: Sequence[float], fractions: Sequence[float]) -> list[int]:
    """Indices of the first snapshots whose validation score reaches the given fractions of the last one's.

    The last snapshot is the best, so a fraction of 1 gives the last; so does any where the score is NaN, that of a
    training without validation. Scores must rise; `gains` makes those that are to fall rise.
    """
    last = len(epochs) - 1
    reached = [next((i for i, score in enumerate(scores) if score >= part * scores[-1]), last) for part in fractions]
    return [last if part >= 1 else i for i, part in zip(reached, fractions)]


def gains(scores: Sequence[float]) -> list[float]:
    """How far scores that are the better the smaller they are, such as LogLoss, have fallen since the first one.

    A score that is to rise starts near 0, that of a model which knows nothing; a loss starts at the loss of such a model.
    So a fraction of the last gain is the share of the way from the first score to the last.
    """
    return [scores[0] - score for score in scores]


CHECKPOINT_RULES: dict[str, Callable[[Sequence[int], Sequence[float], Sequence[float]], list[int]]] = {
    "epoch": epoch_fractions,
    "score": score_fractions,
}


@dataclass(frozen=True)
class Selection:
    """How checkpoints are chosen.

    Attributes:
        rule: a key of CHECKPOINT_RULES: fractions of the best epoch, or of the best validation score
        fractions: one a checkpoint, increasing, the last one 1
        window: over how many snapshots a rank's deviation is taken
        larger_is_better: of the validation scores; RecBole's `valid_metric_bigger`
    """

    rule: str
    fractions: tuple[float, ...]
    window: int
    larger_is_better: bool = True

    def choose(self, snapshots: Snapshots, best_epoch: int) -> tuple[Tensor, Tensor, list[int]]:
        """The checkpoints up to the best epoch: items [E, U, L] int32, rank_std [E, U, L] float16, snapshot indices.

        A user has a list at all checkpoints or at none, as at the last one: where an earlier checkpoint has none, it has
        that of the next.
        """
        last = snapshots.epochs.index(best_epoch)
        epochs, scores = snapshots.epochs[: last + 1], snapshots.scores[: last + 1]
        rising = scores if self.larger_is_better else gains(scores)
        chosen = CHECKPOINT_RULES[self.rule](epochs, rising, self.fractions)
        final = snapshots.rows(best_epoch)
        items = torch.empty(len(chosen), *final.shape, dtype=torch.int32)
        rank_std = torch.empty(items.shape, dtype=torch.float16)
        for stage, index in enumerate(chosen):
            window = snapshots.epochs[max(0, index + 1 - self.window) : index + 1]
            for start in range(0, len(final), USERS_PER_BLOCK):
                block = slice(start, start + USERS_PER_BLOCK)
                recent = [snapshots.rows(epoch, start, min(start + USERS_PER_BLOCK, len(final))) for epoch in window]
                items[stage, block] = recent[-1]
                rank_std[stage, block] = rank_deviation(recent[-1], recent)
        for stage in reversed(range(len(chosen) - 1)):
            empty = items[stage, :, 0] == 0
            items[stage, empty], rank_std[stage, empty] = items[stage + 1, empty], rank_std[stage + 1, empty]
        items[:, items[-1, :, 0] == 0] = 0
        return items, rank_std, chosen


class Recorder(Trainer):
    """A mixin, first in line before any RecBole trainer: a snapshot after each validation, the best state cached.

    It wraps the outer calls only, so trainers with several inner passes an epoch (RecVAE) are recorded once an epoch.
    Recording changes nothing in the training: it draws no random number, and no checkpoint file is written.
    """

    def record(self, snapshots: Snapshots | None, lists: TopLists, of_users: bool) -> None:
        """Record `lists` into `snapshots` from now on; None keeps the best state alone.

        `of_users` says that the lists are of users, as a validation's scores are; rows of a sequential model are mostly of
        points that no validation asks for.
        """
        self.snapshots, self.lists, self.of_users = snapshots, lists, of_users
        self.epochs_trained, self.best_epoch = 0, 0
        self.best_state: dict[str, Any] = {}

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[..., Tensor | tuple[Tensor, ...]] | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        loss = super()._train_epoch(train_data, epoch_idx, loss_func=loss_func, show_progress=show_progress)
        self.epochs_trained = epoch_idx + 1
        return loss

    def _valid_epoch(self, valid_data: AbstractDataLoader, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        self.lists.forget()
        score, result = super()._valid_epoch(valid_data, show_progress=show_progress)
        if self.snapshots is not None:
            self.snapshots.take(self.epochs_trained, float(score), self.lists())
        return score, result

    def _full_sort_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Interaction, Tensor, Tensor, Tensor]:
        interaction, scores, users, items = super()._full_sort_batch_eval(batched_data)
        if self.of_users and self.snapshots is not None:
            self.lists.take(interaction[self.model.USER_ID], scores)
        return interaction, scores, users, items

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: object) -> None:
        state = plain_state(self.model)
        self.best_state = {
            part: {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in values.items()}
            for part, values in state.items()
        }
        self.best_epoch = epoch + 1


def recording_trainer(trainer_class: type[Trainer]) -> type[Recorder]:
    """`trainer_class` with a recorder in front."""
    return type(f"Recording{trainer_class.__name__}", (Recorder, trainer_class), {})
