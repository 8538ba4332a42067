"""Training teachers, each once, and recording their trajectories on the way."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.utils import ModelType, init_seed

from recbole_hetcomp.config import Config, derive
from recbole_hetcomp.errors import UserError, close_matches
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.registry import get_model, get_trainer, properties_dir, properties_of
from recbole_hetcomp.settings import check_settings
from recbole_hetcomp.split import Split, split_seed
from recbole_hetcomp.teachers.cache import fingerprint, folder_of, kept
from recbole_hetcomp.teachers.lists import is_list_file, read_lists
from recbole_hetcomp.teachers.pool import Needs, Teacher, TeacherPool
from recbole_hetcomp.teachers.ranking import PAIRS_AT_ONCE, ranked_history, top_unobserved
from recbole_hetcomp.teachers.recorder import CHECKPOINT_RULES, Recorder, Selection, Snapshots, recording_trainer
from recbole_hetcomp.teachers.side_by_side import check_backend, side_by_side
from recbole_hetcomp.teachers.trajectory import OBSERVED_DEPTH, Trajectory
from recbole_hetcomp.trainer import parallel
from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

TRAJECTORY_SETTINGS = ("trajectory_depth", "trajectory_rule", "trajectory_fractions", "consistency_window")


def check_teachers(config: Config) -> None:
    """Raise a UserError for teachers that cannot be trained as asked, before any of them is."""
    names = config["teachers"]
    if not isinstance(names, (list, tuple)) or not names:
        raise UserError(f"teachers: {names!r} is no list of names; write --teachers=\"['BPR','LightGCN']\"")
    settings = config["teacher_config"]
    if not isinstance(settings, dict) or not all(isinstance(value, dict) for value in settings.values()):
        raise UserError(f"teacher_config: {settings!r} is not of the form {{'LightGCN': {{'n_layers': 2}}}}")
    for name in settings:
        if name not in names and name != "all":
            raise UserError(f"teacher_config: {name!r} is no teacher of this run{close_matches(name, [*names, 'all'])}")
    _selection(config)
    check_backend(config["teacher_backend"])
    for name in map(str, names):
        if names.count(name) > 1:
            raise UserError(f"teachers: {name!r} is named twice; name each teacher once")
        if is_list_file(name):
            if not Path(name).is_file():
                raise UserError(f"teachers: there is no file {name!r} with ranked lists; correct the path")
        else:
            own = teacher_config(config, name)
            own.warn_of_unknown_keys(f"teacher_config of {name}")
            check_settings(own, f"teacher_config of {name}: ")


def check_student_alone(config: Config) -> None:
    """Raise a UserError for a student that cannot be trained without teachers as asked, before anything is trained."""
    alone = _alone(config)
    alone.warn_of_unknown_keys("without_distillation_config")
    check_settings(alone, "without_distillation_config: ")


def build_pool(config: Config, split: Split, and_student_alone: bool = False, needs: Needs | None = None) -> TeacherPool:
    """The pool that `config["teachers"]` asks for: what was trained before is loaded, the others are trained and kept.

    Args:
        config: of the run
        split: the data
        and_student_alone: whether `student_alone` will be asked for: where several are trained at once, so is it
        needs: of the method, where there is one

    Raises:
        UserError: a teacher is unknown, named twice, no general recommender, unable to train, or too little for `needs`.
    """
    names = [str(name) for name in config["teachers"]]
    files, stems = [name for name in names if is_list_file(name)], Counter(Path(name).stem for name in names)
    by_name = {name: _from_file(Path(name), split, stems) for name in files}  # a bad file ends the run at once
    if by_name and needs:
        TeacherPool(list(by_name.values())).refuse_unless(needs, config.model)
    trained, stages = [name for name in names if name not in by_name], len(config["trajectory_fractions"])
    for name, teacher in by_name.items():
        if trained and teacher.trajectory.n_stages not in (1, stages):
            raise UserError(
                f"teachers: {name!r} has {teacher.trajectory.n_stages} checkpoints, and the teachers to be trained have the "
                f"{stages} of trajectory_fractions; give it as many, or one"
            )
    _train_side_by_side(config, split, trained, and_student_alone)
    by_name.update({name: _teacher(config, split, name) for name in names if name not in by_name})
    return TeacherPool([by_name[name] for name in names])


def _train_side_by_side(config: Config, split: Split, names: Sequence[str], and_student_alone: bool) -> None:
    """Train those of the teachers `names` that are not kept yet in `teacher_workers` processes, where that is above 1.

    The student without distillation, where it is asked for, counts as one more of them. A teacher is the same as one trained
    alone with as many threads.

    Raises:
        UserError: what the first of the teachers that failed says, when the others have been trained and kept.
    """
    jobs: dict[str, Callable[[], Any]] = {}
    if and_student_alone and not folder_of(_alone(config), split.fingerprint, {}).is_dir():
        jobs["student alone"] = partial(student_alone, config, split)  # first: a long one at the end would run by itself
    jobs.update(
        {name: partial(_teacher, config, split, name) for name in names if not _folder(config, split, name).is_dir()}
    )
    workers = min(config["teacher_workers"], len(jobs))
    if workers < 2 or not parallel.is_first():
        return
    failures = side_by_side(config, jobs, workers)
    failures.pop("student alone", None)  # it says what it fails of when it is asked for
    for failure in failures.values():
        raise failure


def _from_file(path: Path, split: Split, stems: Mapping[str, int]) -> Teacher:
    return Teacher(path.stem if stems[path.stem] == 1 else path.name, read_lists(path, split))


def teacher_config(config: Config, name: str) -> Config:
    """A teacher's Config: RecBole's defaults, our yaml file for it, `teacher_config`'s part for all, then its own part."""
    model: Any = get_model(name, "teachers")
    if model.type not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        raise UserError(f"teachers: {name!r} is a {model.type.name.lower()} model; teachers are general recommenders")
    if issubclass(model, DistilledRecommender):
        raise UserError(f"teachers: {name!r} is itself distilled from teachers; name the models that it learns from")
    settings = training_settings(config, name)
    for part in ("all", name):
        settings.update(config["teacher_config"].get(part, {}))
    return derive(config, name, settings, seed=split_seed(config))


def training_settings(config: Config, name: str) -> dict[str, Any]:
    """How a model is trained unless the user says otherwise: properties/teacher/<name>.yaml, where there is one."""
    path = properties_dir() / "teacher" / f"{name}.yaml"
    settings = config.read_yaml(path) if path.is_file() else {}
    if get_model(name).type == ModelType.TRADITIONAL:  # type: ignore[attr-defined]
        settings["eval_step"] = 1  # RecBole trains these for one epoch, and keeps nothing that it has not validated
    return settings


def _selection(config: Config) -> Selection:
    rule, fractions = config["trajectory_rule"], config["trajectory_fractions"]
    if rule not in CHECKPOINT_RULES:
        raise UserError(f"trajectory_rule: {rule!r} is none of {sorted(CHECKPOINT_RULES)}")
    rising = isinstance(fractions, (list, tuple)) and fractions and sorted(fractions) == list(fractions)
    if not rising or fractions[-1] != 1 or fractions[0] <= 0:
        raise UserError(f"trajectory_fractions: {fractions!r} must rise from above 0 to 1, such as [0.25, 0.5, 0.75, 1.0]")
    return Selection(rule, tuple(fractions), int(config["consistency_window"]))


def _teacher(config: Config, split: Split, name: str) -> Teacher:
    own = teacher_config(config, name)
    shaped_by = _shaped_by(config)

    def train(folder: Path) -> Mapping[str, Any]:
        return _train_teacher(own, split, _selection(config), config["trajectory_depth"], folder)

    folder = kept(own, split.fingerprint, shaped_by, train)
    try:
        trajectory = Trajectory.load(folder / "trajectory.safetensors")
    except UserError as error:
        raise UserError(f"{error}; delete the folder {str(folder)!r} to have {name} trained again") from error
    if trajectory.dataset_fingerprint != split.fingerprint:
        raise UserError(f"{str(folder)!r} holds a trajectory of another dataset; delete the folder")
    silent = int((trajectory.items[-1, split.history.active_users, 0] == 0).sum())
    if silent == len(split.history.active_users):
        raise UserError(f"{name} scores all items alike for every user: it teaches nothing; leave it out")
    if silent:
        getLogger().info(f"{name}: no list for {silent} users, for whom it scores all items alike")
    return Teacher(name, trajectory, load=lambda: load_model(own, split, folder / "model.pth"))


def _shaped_by(config: Config) -> dict[str, Any]:
    return {key: config[key] for key in TRAJECTORY_SETTINGS}


def _folder(config: Config, split: Split, name: str) -> Path:
    """Where the teacher is kept, be it there or not."""
    return folder_of(teacher_config(config, name), split.fingerprint, _shaped_by(config))


def load_model(config: Config, split: Split, path: Path) -> Any:
    """The model of `config` with the parameters kept in `path`, in evaluation mode."""
    model = get_model(config.model)(config, copy.copy(split.train)).to(config["device"])
    try:
        state = load_checkpoint(path, map_location=config["device"])
        model.load_state_dict(state["state_dict"])
    except (OSError, RuntimeError, CheckpointError) as error:
        folder = str(path.parent)
        raise UserError(f"{error}; delete the folder {folder!r} to have {config.model} trained again") from error
    model.load_other_parameter(state["other_parameter"])
    return model.eval()


def fit_recorded(config: Config, split: Split, snapshots: Snapshots | None, depth: int = 0) -> Recorder:
    """Train the model of `config` with RecBole and leave it at its best epoch; its lists go into `snapshots`, if any.

    Raises:
        UserError: its loss or its scores become NaN.
    """
    init_seed(config["seed"], config["reproducibility"])
    loaders = split.loaders(config)
    model_class = get_model(config.model)
    model = model_class(config, loaders.train._dataset).to(config["device"])
    trainer = recording_trainer(get_trainer(model_class))(config, model)

    def lists() -> torch.Tensor:
        bar = "Snapshot" if config["show_progress"] else None
        return top_unobserved(
            model, split.history, depth, max_block_mb=config["max_block_mb"], progress=bar, opinions_alone=True
        )

    trainer.test_batch_size = min(trainer.test_batch_size, PAIRS_AT_ONCE)
    trainer.record(snapshots, lists)
    try:
        trainer.fit(loaders.train, loaders.valid, saved=True, show_progress=config["show_progress"])
        if snapshots is not None and trainer.best_epoch not in snapshots.epochs:  # it was never validated (eval_step: 0)
            snapshots.take(trainer.best_epoch, float("nan"), lists())
    except (FloatingPointError, ValueError) as error:
        if not is_nan(error):
            raise
        raise UserError(f"{config.model} cannot be trained: {error}; lower its learning_rate or leave it out") from error
    model.load_state_dict(trainer.best_state["state_dict"])
    model.load_other_parameter(trainer.best_state["other_parameter"])
    return trainer


def is_nan(error: Exception) -> bool:
    """Whether an error says that a loss or a score became NaN, as RecBole's Trainer and `top_unobserved` word it."""
    return re.search(r"\bnan\b", str(error), re.IGNORECASE) is not None and not isinstance(error, UserError)


def student_alone(config: Config, split: Split) -> Any:
    """The same student as in the run of `config`, trained without teachers, by its own loss and with its own settings.

    Kept and found again like a teacher. What makes it the same student, such as its size, is taken from the run.
    """
    alone = _alone(config)

    def train(folder: Path) -> Mapping[str, Any]:
        trainer = fit_recorded(alone, split, None)
        save_checkpoint(folder / "model.pth", trainer.best_state)
        return {"best_epoch": trainer.best_epoch, "valid": float(trainer.best_valid_score)}

    return load_model(alone, split, kept(alone, split.fingerprint, {}, train) / "model.pth")


def _alone(config: Config) -> Config:
    name = str(config["student"])
    path = properties_of(name)
    own = config.read_yaml(path) if path is not None else {}
    same = {key: config[key] for key in own or () if key not in config.parameters["Training"]}
    settings = {**training_settings(config, name), **same, **config["without_distillation_config"]}
    return derive(config, name, settings, seed=config["seed"])


def _train_teacher(config: Config, split: Split, selection: Selection, depth: int, folder: Path) -> dict[str, Any]:
    """Train one teacher and write its files into `folder`; returns the record of it."""
    snapshots = Snapshots(folder)
    trainer = fit_recorded(config, split, snapshots, depth)
    items, rank_std, chosen = selection.choose(snapshots, trainer.best_epoch)
    trajectory = Trajectory(
        items=items,
        rank_std=rank_std,
        observed=ranked_history(trainer.model, split.history, OBSERVED_DEPTH, max_block_mb=config["max_block_mb"]),
        epochs=torch.tensor([snapshots.epochs[i] for i in chosen], dtype=torch.int32),
        valid_scores=torch.tensor([snapshots.scores[i] for i in chosen], dtype=torch.float32),
        teacher=config.model,
        dataset_fingerprint=split.fingerprint,
        config_fingerprint=fingerprint(config, {}),
    )
    trajectory.save(folder / "trajectory.safetensors")
    save_checkpoint(folder / "model.pth", trainer.best_state)
    snapshots.clear()
    return {
        "best_epoch": trainer.best_epoch,
        "epochs": trajectory.epochs.tolist(),
        "valid": trajectory.valid_scores.tolist(),
    }
