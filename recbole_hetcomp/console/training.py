"""A RecBole trainer that shows its epochs."""

from __future__ import annotations

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_hetcomp.console.events import counted, display, note, say, subject


class Shown(Trainer):
    """A mixin before any RecBole trainer: what it trains is on the screen, epoch by epoch."""

    def fit(self, *arguments: object, **settings: object) -> tuple[float, dict[str, float]]:
        """As RecBole's, shown from a line at its beginning to its end."""
        self.title, self.last_score, self.epochs_trained = subject() or self.config["model"], "", 0
        already = f", goes on from epoch {self.start_epoch}" if self.start_epoch else ""
        say(f"training, at most {counted(self.epochs, 'epoch')}{already}")
        note("")
        display.screen.begin(self.title, self.epochs)
        try:
            return super().fit(*arguments, **settings)
        finally:
            display.screen.end(self.title)

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, *arguments: object, **settings: object
    ) -> float | tuple[float, ...]:
        loss = super()._train_epoch(train_data, epoch_idx, *arguments, **settings)
        self.epochs_trained = epoch_idx + 1
        display.screen.advance(self.title, epoch_idx + 1, self.last_score, display.note)
        return loss

    def _valid_epoch(self, *arguments: object, **settings: object) -> tuple[float, dict[str, float]]:
        score, result = super()._valid_epoch(*arguments, **settings)
        self.last_score = f"{self.config['valid_metric']} {score:.4f} (epoch {self.epochs_trained})"
        return score, result


def shown(trainer_class: type[Trainer]) -> type[Trainer]:
    """`trainer_class`, its trainings shown; RecBole's trainers of decision trees, which know no epochs, as they are."""
    if not issubclass(trainer_class, Trainer):
        return trainer_class
    return type(trainer_class.__name__, (Shown, trainer_class), {})
