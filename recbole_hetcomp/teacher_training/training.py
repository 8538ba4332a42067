"""Training one model with RecBole, recorded on the way: a teacher, from its Config to its trajectory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from logging import getLogger
from pathlib import Path

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.fitting import set_ratios
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.split import Split, is_sequential
from recbole_hetcomp.teacher_training.cache import cached, fingerprint, folder_of
from recbole_hetcomp.teacher_training.configs import checkpoint_selection, teacher_config
from recbole_hetcomp.teacher_training.recorder import Recorder, Selection, Snapshots, recording_trainer
from recbole_hetcomp.teacher_training.source import source_fingerprint
from recbole_hetcomp.teacher_training.top_lists import TopLists
from recbole_hetcomp.teacher_training.tuned import say_found, use_found
from recbole_hetcomp.teachers.context import ContextTeacher
from recbole_hetcomp.teachers.lists import check_kept
from recbole_hetcomp.teachers.pool import Teacher
from recbole_hetcomp.teachers.ranking import PAIRS_AT_ONCE, ranked_history
from recbole_hetcomp.teachers.trajectory import OBSERVED_DEPTH, Trajectory
from recbole_hetcomp.trainer.building import build_model, build_to_fill
from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_checkpoint, load_into, save_checkpoint
from recbole_hetcomp.trainer.choice import get_trainer
from recbole_hetcomp.trainer.faults import faults_of
from recbole_hetcomp.trainer.threads import computing_in

SHAPING_SETTINGS = ("trajectory_depth", "trajectory_rule", "trajectory_fractions", "consistency_window", "teacher_threads")
# What a recorded training runs beside its model and trainer. This module imports more than it needs for that (it chooses
# among trainers, and through them reaches every student), so it counts without its imports.
RECORDING = ("recbole_hetcomp.teacher_training.recorder", "recbole_hetcomp.teachers.ranking")
BY_ROW = "recbole_hetcomp.data.asked"  # beside these, of a model that is asked by sequences


def cached_teacher(config: Config, split: Split, name: str) -> Teacher:
    """The teacher `name`, loaded where it was trained before, else trained now and cached.

    Raises:
        UserError: it cannot be trained, teaches nothing, or what is cached of it cannot be read.
    """
    own = teacher_config(config, name)
    found = use_found(own, config, split)
    rows = split.rows_for(config)
    of_rows = rows if is_sequential(own) else None  # a general one says the same at all points of a user's sequence

    def train(folder: Path) -> Mapping[str, object]:
        with computing_in(config["teacher_threads"]):
            return _train_teacher(own, split, checkpoint_selection(config), config["trajectory_depth"], folder, of_rows)

    with console.about(f"teacher {name}"):
        say_found(found)
        folder = cached(own, split.fingerprint_for(own), _shaped_by(config, of_rows), train)
    path = folder / "trajectory.safetensors"
    try:
        trajectory = Trajectory.load(path)
        if trajectory.dataset_fingerprint != split.fingerprint:
            raise UserError("it is of another dataset")
        check_kept(trajectory, split, config["valid_metric"], of_rows)
    except UserError as error:
        reason = str(error).partition("; make it anew")[0].replace(str(path), path.name)[:200]
        raise UserError(
            f"teachers: what is kept of {name} is damaged ({reason}); delete the folder {str(folder)!r} to have {name} "
            "trained again"
        ) from error
    history = split.history if of_rows is None else of_rows
    without_list = int((trajectory.items[-1, history.active_users, 0] == 0).sum())
    if without_list == len(history.active_users):
        raise UserError(f"{name} scores all items alike for every user: it teaches nothing; leave it out")
    if without_list:
        getLogger().info(f"{name}: no list for {without_list} users, for whom it scores all items alike")
    return Teacher(name, trajectory, load=lambda: load_model(own, split, folder / "model.pth"), rows=rows)


def recording_source(rows: Sequences | None = None) -> dict[str, str]:
    """What shapes a recorded training beside its settings and the source of its model, which may be asked for `rows`."""
    modules = RECORDING if rows is None else (*RECORDING, BY_ROW)
    return {"recording": source_fingerprint(modules, alone=[__name__])}


def fit_and_save(config: Config, split: Split, threads: int, folder: Path) -> dict[str, object]:
    """Train the model of `config` in so many threads, without lists, and write model.pth into `folder`; the record of it."""
    with computing_in(threads):
        trainer = fit_recorded(config, split, None)
    save_checkpoint(folder / "model.pth", trainer.best_state)
    return {
        "best_epoch": trainer.best_epoch,
        "epochs_trained": trainer.epochs_trained,
        "valid": [float(trainer.best_valid_score)],
    }


def cached_context_teacher(config: Config, split: Split, name: str) -> ContextTeacher:
    """The context-aware teacher `name`, loaded where it was trained before, else trained now and cached.

    Raises:
        UserError: it cannot be trained, or what is cached of it cannot be read.
    """
    own = teacher_config(config, name)
    found = use_found(own, config, split)
    train = partial(fit_and_save, own, split, config["teacher_threads"])
    with console.about(f"teacher {name}"):
        say_found(found)
        folder = cached(own, split.fingerprint_for(own), _shaped_by(config, None), train)
    return ContextTeacher(name, load_model(own, split, folder / "model.pth"), folder.name)


def _shaped_by(config: Config, rows: Sequences | None) -> dict[str, object]:
    if config.family == "context":  # no lists are recorded of these
        return {"teacher_threads": config["teacher_threads"], **recording_source()}
    shaped_by = {**{key: config[key] for key in SHAPING_SETTINGS}, **recording_source(rows)}
    return shaped_by if rows is None else {**shaped_by, "rows": rows.fingerprint}


def teacher_folder(config: Config, split: Split, name: str) -> Path:
    """Where the teacher is cached, be it there or not."""
    own = teacher_config(config, name)
    use_found(own, config, split)
    of_rows = split.rows_for(config) if is_sequential(own) else None
    return folder_of(own, split.fingerprint_for(own), _shaped_by(config, of_rows))


def load_model(config: Config, split: Split, path: Path) -> AbstractRecommender:
    """The model of `config` with the parameters cached in `path`, in evaluation mode."""
    set_ratios(config, split)
    model = build_to_fill(config, copy.copy(split.train_for(config)))
    try:
        load_into(model, load_checkpoint(path, map_location=config["device"]), path)
    except (OSError, CheckpointError) as error:
        folder = str(path.parent)
        raise UserError(f"{error}; delete the folder {folder!r} to have {config.model} trained again") from error
    return model.eval()


def fit_recorded(
    config: Config,
    split: Split,
    snapshots: Snapshots | None,
    depth: int = 0,
    after_validation: Callable[[int, float], None] | None = None,
    rows: Sequences | None = None,
) -> Recorder:
    """Train the model of `config` with RecBole and leave it at its best epoch; its lists go into `snapshots`, if any.

    They are of users, or of `rows` where the model is asked by sequences.

    `after_validation` is told each epoch, counted from 0, that was validated, and its score. It may raise, which ends all.

    Raises:
        UserError: its loss or its scores become NaN.
    """
    init_seed(config["seed"], config["reproducibility"])
    loaders = split.loaders(config)
    model = build_model(config, loaders.train._dataset)
    trainer = recording_trainer(console.shown(get_trainer(config.model_class)))(config, model)

    asked, history = (model, split.history) if rows is None else (asked_by(model, rows), rows)
    bar = "Snapshot" if config["show_progress"] else None
    lists = TopLists(asked, history, depth, config["max_block_mb"], bar)
    trainer.test_batch_size = min(trainer.test_batch_size, PAIRS_AT_ONCE)
    trainer.record(snapshots, lists, of_users=rows is None)
    with faults_of(config.model, " or leave it out"):
        trainer.fit(
            loaders.train,
            loaders.valid,
            saved=True,
            show_progress=config["show_progress"],
            **({} if after_validation is None else {"callback_fn": after_validation}),
        )
        if snapshots is not None and trainer.best_epoch not in snapshots.epochs:  # it was never validated (eval_step: 0)
            snapshots.take(trainer.best_epoch, float("nan"), lists())
    model.load_state_dict(trainer.best_state["state_dict"])
    model.load_other_parameter(trainer.best_state["other_parameter"])
    return trainer


def _train_teacher(
    config: Config, split: Split, selection: Selection, depth: int, folder: Path, rows: Sequences | None
) -> dict[str, object]:
    """Train one teacher and write its files into `folder`; returns the record of it."""
    snapshots = Snapshots(folder)
    trainer = fit_recorded(config, split, snapshots, depth, rows=rows)
    history = split.history if rows is None else rows
    observed = ranked_history(asked_by(trainer.model, history), history, OBSERVED_DEPTH, max_block_mb=config["max_block_mb"])
    items, rank_std, chosen = selection.choose(snapshots, trainer.best_epoch)
    trajectory = Trajectory(
        items=items,
        rank_std=rank_std,
        observed=observed,
        epochs=torch.tensor([snapshots.epochs[i] for i in chosen], dtype=torch.int32),
        valid_scores=torch.tensor([snapshots.scores[i] for i in chosen], dtype=torch.float32),
        teacher=config.model,
        dataset_fingerprint=split.fingerprint,
        config_fingerprint=fingerprint(config, recording_source(rows)),
        rows="" if rows is None else rows.fingerprint,
    )
    trajectory.save(folder / "trajectory.safetensors")
    save_checkpoint(folder / "model.pth", trainer.best_state)
    snapshots.clear()
    return {
        "best_epoch": trainer.best_epoch,
        "epochs_trained": trainer.epochs_trained,
        "epochs": trajectory.epochs.tolist(),
        "valid": trajectory.valid_scores.tolist(),
    }
