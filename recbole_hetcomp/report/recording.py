"""What a training comes to, epoch by epoch: losses, validation scores, the curriculum, the distance to the teachers.

Nothing is drawn at random, and nothing of the training is changed: the student's lists are those that are ranked after a
validation anyway, and of them those `looked_at` are compared with the teachers' lists.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Optional

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.config.records import LARGEST
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.knowledge import discrepancy
from recbole_hetcomp.model.target_lists import looked_at
from recbole_hetcomp.report.schema import CURVES, read
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.trainer import parallel
from recbole_hetcomp.trainer.distillation import DistillationTrainer

DEPTH = 50  # of the lists that are compared
DIGITS = 5


@dataclass
class Curves:
    """The curves of one training, as docs/report.md describes them.

    Attributes:
        metric: by which the training is validated
        larger_is_better: of its values
        at_start: the score before any training; None where it was not asked for
        epochs: a dict an epoch: `epoch` (from 1), `loss` (its parts, sums over the batches), `seconds`
        validations: a dict a validation: `epoch`, `score`, `phase` (which loss holds), `seconds`, of students `may_stop`
            (what is to be learnt no longer changes), and of those that have them `stages` (a teacher's mean checkpoint, from
            0) and `distances` (D@50 to each checkpoint of each teacher)
        teachers: a dict a teacher: `name`, `epochs` and `scores` of its checkpoints
    """

    metric: str
    larger_is_better: bool
    at_start: Optional[float] = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    teachers: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.earlier_seconds = 0.0  # of the epochs and validations before an interruption

    def go_on_from(self, path: Path, epoch: int) -> None:
        """Take the first `epoch` epochs from `path`, where an interrupted training has left them.

        Raises:
            UserError: the file is damaged.
        """
        if epoch and path.is_file():
            earlier = read(path, CURVES, "delete the file: the page will lack the epochs before the interruption")
            self.epochs = [entry for entry in earlier["epochs"] if entry["epoch"] <= epoch]
            self.validations = [entry for entry in earlier["validations"] if entry["epoch"] <= epoch]
            self.earlier_seconds = sum(entry.get("seconds", 0.0) for entry in [*self.epochs, *self.validations])

    def save(self, path: Path) -> None:
        """Write all of it, at once."""
        write(path, json.dumps(asdict(self)) + "\n")


class Recorded(Trainer):
    """A mixin before any RecBole trainer that fills its `curves`."""

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.curves = Curves(str(config["valid_metric"]), bool(config["valid_metric_bigger"]))
        self.phase = ""

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, *arguments: object, **settings: object
    ) -> float | tuple[float, ...]:
        started = perf_counter()
        loss = super()._train_epoch(train_data, epoch_idx, *arguments, **settings)
        parts = loss if isinstance(loss, tuple) else (loss,)
        seconds = round(perf_counter() - started, 3)
        entry = {"epoch": epoch_idx + 1, "loss": [plain(part) for part in parts], "seconds": seconds}
        self.curves.epochs.append(entry)
        return loss

    def _valid_epoch(self, *arguments: object, **settings: object) -> tuple[float, dict[str, float]]:
        epoch = self.curves.epochs[-1]["epoch"] if self.curves.epochs else 0
        entry: dict[str, Any] = {"epoch": epoch, "score": None, "phase": ""}
        self.curves.validations.append(entry)
        started = perf_counter()
        score, result = super()._valid_epoch(*arguments, **settings)
        entry |= {"score": plain(score), "seconds": round(perf_counter() - started, 3)}
        return score, result


class RecordedStudent(Recorded, DistillationTrainer):
    """A mixin before a `DistillationTrainer`: the curriculum and the distances to the teachers are in the `curves`, too."""

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.lists: Tensor | None = None
        self.users = torch.zeros(0, dtype=torch.int64)
        self.curves_file: Path | None = None  # where the curves are kept whenever progress is

    def watch(self, pool: TeacherPool) -> None:
        """Compare the student with the teachers of `pool`."""
        trajectories = [teacher.trajectory for teacher in pool.teachers]
        self.curves.teachers = [
            {
                "name": teacher.name,
                "epochs": own.epochs.tolist(),
                "scores": [plain(score) for score in own.valid_scores.tolist()],
            }
            for teacher, own in zip(pool.teachers, trajectories)
        ]
        if not parallel.is_first():
            return
        self.users = looked_at(self.model.history)
        lists = [own.items[:, self.users, :DEPTH] for own in trajectories]
        self.lists = torch.cat([pad(part, (0, DEPTH - part.size(2))) for part in lists])  # [checkpoints of all, B, DEPTH]

    def fit(self, *arguments: object, **settings: object) -> tuple[float, dict[str, float]]:
        """As ever."""
        self.curves.at_start = plain(self.at_start)
        if self.curves_file is not None and parallel.is_first():
            self.curves.go_on_from(self.curves_file, self.start_epoch)
        return super().fit(*arguments, **settings)

    def _train_epoch(self, *arguments: Any, **settings: Any) -> float | tuple[float, ...]:
        if self.curves_file is not None and self.progress is not None and parallel.is_first() and self.progress.is_due():
            self.curves.save(self.curves_file)  # before the progress, which then has no epoch that is not here
        return super()._train_epoch(*arguments, **settings)

    def _valid_epoch(self, *arguments: object, **settings: object) -> tuple[float, dict[str, float]]:
        phase = self.model.phase
        result = super()._valid_epoch(*arguments, **settings)
        entry = self.curves.validations[-1]
        entry |= {"phase": phase, "may_stop": bool(self.model.may_stop_early)}
        stages = self.model.mean_stages
        if stages is not None:
            entry["stages"] = [plain(stage) for stage in stages]
        return result

    def _ranking(self, show_progress: bool) -> Tensor:
        ranked = super()._ranking(show_progress)
        if self.lists is not None:
            self.curves.validations[-1]["distances"] = self._distances(ranked)
        return ranked

    def _distances(self, ranked: Tensor) -> list[list[float | None]]:
        """For each teacher D@50 from each of its checkpoints, a mean over the users looked at."""
        assert self.lists is not None
        counted = {"relevance": self.config["discrepancy"], "temperature": float(self.config["importance_temperature"])}
        means = discrepancy(ranked[self.users], self.lists, k=DEPTH, **counted).mean(1).tolist()
        values = iter(means)
        return [[plain(next(values)) for _ in teacher["epochs"]] for teacher in self.curves.teachers]


def recorded(trainer_class: type[Trainer]) -> type[Trainer]:
    """`trainer_class` with its `curves`; RecBole's trainers of decision trees, which know no epochs, as they are."""
    if not issubclass(trainer_class, Trainer):
        return trainer_class
    mixin = RecordedStudent if issubclass(trainer_class, DistillationTrainer) else Recorded
    return type(trainer_class.__name__, (mixin, trainer_class), {})


def curves_of(trainer: Any) -> dict[str, Any] | None:
    """The curves of a training as JSON has them; None where none were recorded."""
    return asdict(trainer.curves) if isinstance(trainer, Recorded) else None


def plain(value: float) -> float | None:
    """A number as JSON has it, with a few digits behind the point; None where it is none, or more than records hold."""
    return round(float(value), DIGITS) if abs(value) < LARGEST else None
