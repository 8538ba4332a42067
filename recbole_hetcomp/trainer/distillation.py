"""RecBole's Trainer for distilled models: batches of users, the method's hook after each validation, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score, set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parametrize
from tqdm import tqdm

from recbole_hetcomp import console
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.model.target_lists import RANKED, looked_at
from recbole_hetcomp.teachers.ranking import top_unobserved
from recbole_hetcomp.trainer import parallel
from recbole_hetcomp.trainer.checkpoint import check_state, load_checkpoint, plain_state, save_student
from recbole_hetcomp.trainer.entity_batches import EntityBatches
from recbole_hetcomp.trainer.progress_file import ProgressFile, on_cpu, progress_of, restore_generators, resume_from
from recbole_hetcomp.trainer.shared_batches import loss_of_all
from recbole_hetcomp.trainer.threads import ThreadChoice, in_chosen_threads, possible_threads


class DistillationTrainer(Trainer):
    """Trains a `DistilledRecommender` that has already learnt from its teachers.

    Before an epoch everything that the rest of the training depends on is written to its `progress`, where there is a file
    for it and a write is due: an interrupted training goes on from there as if nothing had happened.
    """

    def __init__(self, config: Config, model: DistilledRecommender) -> None:
        super().__init__(config, model)
        self.optimizer_apart = self._build_optimizer_apart()
        self.progress: ProgressFile | None = None
        self.resumed: dict[str, Any] = {}  # states of generators that the first epoch after a resume begins with
        self.best: dict[str, Any] | None = None  # the best student so far, as it is saved, where progress is; on the CPU
        self.served_data: dict[str, Tensor] = {}  # what the saved student serves with where the data are not
        self.thread_choice = ThreadChoice(possible_threads(config["threads"], self.device))
        self.at_start = math.nan  # the validation score before any training, where it was asked for
        self.user_batches: EntityBatches | None = None
        if model.training_entities is not None:
            field, users = model.training_entities
            self.user_batches = EntityBatches(field, users, config["train_batch_size"], config["seed"])

    def _build_optimizer(self, **settings: object) -> torch.optim.Optimizer:
        groups = self.model.parameter_groups()
        deviating = {id(parameter) for group in groups for parameter in group["params"]}
        others = [parameter for parameter in _not_apart(self.model) if id(parameter) not in deviating]
        return super()._build_optimizer(params=[{"params": others}, *groups], **settings)

    def _build_optimizer_apart(self) -> torch.optim.Optimizer | None:
        """Of what is trained apart: the same `learner`, a learning rate of its own, no decay; None where nothing is."""
        apart = list(self.model.apart.parameters())
        if not apart or not self.model.distillation_weight:
            return None
        rate = float(self.config["apart_learning_rate"])
        return super()._build_optimizer(params=apart, learning_rate=rate, weight_decay=0.0)

    def resume(self, path: Path) -> None:
        """Continue the training whose progress is in `path`, now or with the next epoch begun.

        Raises:
            UserError: the file cannot be read, or holds what this training cannot have come to.
        """
        self.progress = ProgressFile(path)
        if not path.is_file():
            return
        self.resumed = resume_from(path, self)
        if self.best is not None and parallel.is_first():  # into this run's own file; the interrupted one's stays
            save_student(self.saved_model_file, self.best, self.config, self.served_data)
        self.logger.info(set_color("Resuming", "blue") + f": epoch {self.start_epoch}, from {path}")

    def fit(self, *arguments: object, **settings: object) -> tuple[float, dict[str, float]]:
        """As RecBole's; at the end the student is what is served, without what only its training needed."""
        result = super().fit(*arguments, **settings)
        if not self.model.may_stop_early:
            self.logger.warning(
                f"epochs: {self.epochs} were over before the curriculum was; with more, the student learns more"
            )
        self._warn_of_a_loss(self.best_valid_score)
        self.model.finish_training()
        return result

    def note_start(self, train_data: AbstractDataLoader, valid_data: AbstractDataLoader) -> None:
        """Validate the student before any training, which `fit` then compares with what came of it."""
        if self.eval_step > 0:
            self.eval_collector.data_collect(train_data)
            result = self.evaluate(valid_data, load_best_model=False)
            self.at_start = float(calculate_valid_score(result, self.valid_metric))
            self.logger.info(f"validation {self.valid_metric} before any training: {self.at_start:.4f}")

    def _warn_of_a_loss(self, best: float) -> None:
        sign = 1 if self.valid_metric_bigger else -1
        if math.isfinite(best) and sign * best < sign * self.at_start:
            self.logger.warning(
                f"{self.config['model']}: the training made the student worse: its best validation "
                f"{self.config['valid_metric']} is {best:.4f}, and it began with {self.at_start:.4f}; lower learning_rate, "
                "or let it train longer (epochs, stopping_step)"
            )

    @in_chosen_threads
    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[..., Tensor | tuple[Tensor, ...]] | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        batches = train_data if self.user_batches is None else self.user_batches
        if self.resumed:
            restore_generators(self.resumed, self, batches)
            self.resumed = {}
        if self.progress is not None and parallel.is_first() and self.progress.is_due():
            self.progress.write(lambda: progress_of(self, epoch_idx, batches))
        parallel.align_generator(self.model.generator)
        self.model.on_epoch_start(epoch_idx)
        parallel.own_randomness(self.config["seed"], epoch_idx)
        self.model.train()
        loss = loss_func or loss_of_all(self.model)
        scaler = _gradient_scaler(self.enable_scaler)
        bar = tqdm(batches, ncols=100, desc=set_color(f"Train {epoch_idx:>5}", "pink"), disable=not show_progress)
        losses = [self._step(loss, batch, scaler) for batch in self.thread_choice.steps(bar)]
        return self._sums(losses)

    def _step(self, loss: Callable[..., Any], batch: Interaction, scaler: Any) -> tuple[Tensor, ...]:
        """One batch, as RecBole's Trainer has it, but that nobody waits for the device: the parts of the loss stay there."""
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=self.enable_amp):
            found = loss(batch)
        parts = found if isinstance(found, tuple) else (found,)
        scaler.scale(sum(parts)).backward()
        if self.clip_grad_norm:
            clip_grad_norm_(_not_apart(self.model), **self.clip_grad_norm)
        scaler.step(self.optimizer)
        if self.optimizer_apart is not None:
            self._step_apart(self.optimizer_apart, batch, scaler)
        scaler.update()
        return tuple(part.detach().reshape(()) for part in parts)  # some of RecBole's models, as LightGCN, return [1]

    def _step_apart(self, optimizer: torch.optim.Optimizer, batch: Interaction, scaler: Any) -> None:
        """A step of what is trained apart: its loss gives gradients to nothing else; what the student's left is cleared."""
        optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=self.enable_amp):
            loss = self.model.loss_apart(batch)
        scaler.scale(loss).backward(inputs=[parameter for group in optimizer.param_groups for parameter in group["params"]])
        scaler.step(optimizer)

    def _sums(self, losses: Sequence[tuple[Tensor, ...]]) -> float | tuple[float, ...]:
        """The epoch's sum of the loss, or of each of its parts; a ValueError where one is NaN, as RecBole has it."""
        columns = torch.stack([torch.stack(parts) for parts in losses], 1).double()  # [parts, batches]
        self._check_nan(columns.sum())
        sums = tuple(columns.cumsum(1)[:, -1].tolist())  # one after the other, in double precision, as RecBole adds them
        return sums if len(sums) > 1 else sums[0]

    @in_chosen_threads
    @parametrize.cached()  # a table that is a function is made once, as no parameter changes inside
    def _valid_epoch(self, valid_data: AbstractDataLoader, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        score, result = super()._valid_epoch(valid_data, show_progress=show_progress)
        epoch = self._epochs_trained()
        still_moving = not self.model.may_stop_early
        line = self.model.after_validation(float(score), epoch, lambda: self._ranking(show_progress))
        if line:
            self.logger.info(set_color("distillation", "green") + f" [{line}]")
            console.note(line)
        if still_moving and self.model.may_stop_early:
            console.say(f"the curriculum is over after epoch {epoch}; early stopping counts from now on")
        if still_moving:
            self.cur_step = -1  # RecBole counts this validation next: patience begins with the first may_stop_early one
        return score, result

    def _ranking(self, show_progress: bool) -> Tensor:
        """[U, RANKED] the student's best items outside the training items, of all users or of those `looked_at`; else 0."""
        history, bar = self.model.history, "Curriculum" if show_progress else None
        users = parallel.share(
            history.active_users if self.model.ranks_everyone(self._epochs_trained()) else looked_at(history)
        )
        ranked = top_unobserved(
            self.model.asked, history, RANKED, users=users, max_block_mb=self.config["max_block_mb"], progress=bar
        )
        return parallel.total(ranked)  # whoever is not in this process's share has a row of 0

    def _epochs_trained(self) -> int:
        """Epochs trained so far; RecBole records each epoch's loss before it validates."""
        return max(self.train_loss_dict) + 1

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: str) -> None:
        self.model.student_saved()
        if not parallel.is_first():
            return
        path = str(kwargs.get("saved_model_file", self.saved_model_file))
        state = {
            **plain_state(self.model),
            "state_dict": self.model.served_state(),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "optimizer": self.optimizer.state_dict(),
        }
        save_student(path, state, self.config, self.served_data)
        if self.progress is not None:
            self.best = on_cpu(state)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    @torch.no_grad()
    @in_chosen_threads
    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """The metrics by name, on every process; RecBole's method on the first one, the best student read as data."""
        if load_best_model:
            parallel.wait()  # for the first process, which may still be writing it
            path = model_file or self.saved_model_file
            saved = load_checkpoint(path, map_location=self.device).get("state_dict")
            check_state(saved, self.model.served_state())
            self.model.load_served_state(saved)
            self.logger.info(f"Loading model structure and parameters from {path}")
        if not parallel.is_first():
            return parallel.from_first(None)
        with parametrize.cached():
            result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        return parallel.from_first(result)


def _not_apart(model: DistilledRecommender) -> list[torch.nn.Parameter]:
    """The parameters that are trained with the student: all but those of `apart`."""
    return [parameter for name, parameter in model.named_parameters() if not name.startswith("apart.")]


def _gradient_scaler(enabled: bool) -> torch.amp.GradScaler:
    """torch's scaler of gradients on a GPU, wherever this version of torch has it."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)
