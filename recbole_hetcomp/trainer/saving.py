"""Checkpoints of RecBole's trainers, written at once: RecBole itself leaves half a file where it is stopped."""

from __future__ import annotations

import io

from recbole.trainer import Trainer
from recbole.utils import set_color

from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.trainer.distillation import DistillationTrainer


class SavedAtOnce(Trainer):
    """A mixin before any RecBole trainer whose checkpoints are RecBole's."""

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: str) -> None:
        path, content = kwargs.pop("saved_model_file", self.saved_model_file), io.BytesIO()
        super()._save_checkpoint(epoch, verbose=False, saved_model_file=content, **kwargs)
        write(path, content.getbuffer())
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")


def saved_at_once(trainer_class: type[Trainer]) -> type[Trainer]:
    """`trainer_class`, its checkpoints written at once; ours, whose are, and RecBole's of decision trees as they are."""
    if not issubclass(trainer_class, Trainer) or issubclass(trainer_class, DistillationTrainer):
        return trainer_class
    return type(trainer_class.__name__, (SavedAtOnce, trainer_class), {})
