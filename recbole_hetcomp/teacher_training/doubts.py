"""Which teachers look badly trained, and what to do about each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from recbole.utils import ModelType

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.records import Kind, each, is_count, is_score, read_record
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teacher_training.training import teacher_folder
from recbole_hetcomp.teachers.lists import is_list_file

FAR_BELOW = 0.15  # of the best teacher's validation score
EARLY = 0.1  # of the epochs allowed
SEARCH = "search for its settings (--tune=12)"
RECORD: dict[str, Kind] = {
    "settings": lambda value: (
        isinstance(value, dict) and is_count(value.get("epochs")) and type(value.get("eval_step")) is int
    ),
    "valid": each(is_score),
    "best_epoch": is_count,
    "epochs_trained": is_count,
}


@dataclass(frozen=True)
class Training:
    """How the training of a teacher went.

    Attributes:
        score: of its best epoch on the validation part; NaN: it was not validated
        best_epoch: counted from 1
        epochs_trained: until it stopped
        epochs: that it might have taken
        eval_step: epochs between two validations
    """

    score: float
    best_epoch: int
    epochs_trained: int
    epochs: int
    eval_step: int = 1

    @classmethod
    def read(cls, folder: Path) -> Training:
        """From the record that is kept with a trained teacher.

        Raises:
            UserError: it is damaged.
        """
        remedy = f"delete the folder {str(folder)!r} to have the teacher trained again"
        record = read_record(folder / "record.json", RECORD, remedy)
        epochs, eval_step = (int(record["settings"][key]) for key in ("epochs", "eval_step"))
        return cls(float(record["valid"][-1]), record["best_epoch"], record["epochs_trained"], epochs, eval_step)

    @property
    def ends_at_its_best(self) -> bool:
        """Whether no later epoch could have been validated."""
        return math.isfinite(self.score) and self.best_epoch + min(self.eval_step, self.epochs) > self.epochs

    @property
    def never_rose(self) -> bool:
        """Whether early stopping ended it, and no validation was better than the first."""
        return math.isfinite(self.score) and self.best_epoch <= self.eval_step and self.epochs_trained < self.epochs


def trainings(config: Config, split: Split) -> dict[str, Training]:
    """Those of a run's teachers that are trained by gradients, epoch by epoch; the teachers have been trained."""
    names = [str(name) for name in config["teachers"] if not is_list_file(str(name))]
    trained = [name for name in names if get_model(name).type != ModelType.TRADITIONAL]
    return {name: Training.read(teacher_folder(config, split, name)) for name in trained}


def doubts(
    teachers: Mapping[str, Training], metric: str, *, larger_is_better: bool = True, searchable: Collection[str] = ()
) -> list[str]:
    """A sentence for each teacher that is far below the best, was still rising, or stopped at once.

    Args:
        teachers: by name
        metric: of the scores
        larger_is_better: of the scores
        searchable: names of those for which a search can find something that the run does not have; these are told to
    """
    scores = [training.score for training in teachers.values() if math.isfinite(training.score)]
    best = (max if larger_is_better else min)(scores, default=math.nan)
    lines = []
    for name, training in teachers.items():
        behind = (best - training.score) / abs(best) * (1 if larger_is_better else -1) if best else math.nan
        before, after = (f"{SEARCH}, or ", f", or {SEARCH}") if name in searchable else ("", "")
        if behind > FAR_BELOW:
            lines.append(
                f"teacher {name}: validation {metric} {training.score:.4f} is {behind:.0%} worse than the best teacher's; "
                f"{before}leave it out"
            )
        if training.ends_at_its_best:
            lines.append(
                f"teacher {name}: its best epoch, {training.best_epoch}, is the last validated of {training.epochs}; let it "
                f"train longer, with '{name}': {{'epochs': {2 * training.epochs}}} in teacher_config"
            )
        elif training.epochs_trained <= EARLY * training.epochs:
            lines.append(
                f"teacher {name}: stopped after {training.epochs_trained} of {training.epochs} epochs; lower its "
                f"learning_rate or raise its stopping_step in teacher_config{after}"
            )
        elif training.never_rose:
            lines.append(
                f"teacher {name}: no validation was better than the first, after epoch {training.best_epoch}; lower its "
                f"learning_rate in teacher_config{after}"
            )
    return lines
