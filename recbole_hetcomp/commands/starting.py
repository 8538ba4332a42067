"""`start_from`: a distilled model whose student begins as the result of another one, which is trained first, or found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp import console
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.config import derive
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir, properties_of
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.split import Split, fit_to_data
from recbole_hetcomp.teacher_training.cache import cached
from recbole_hetcomp.teacher_training.source import source_fingerprint
from recbole_hetcomp.teacher_training.tuning import prepare
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.trainer.checkpoint import CheckpointError, check_state, load_checkpoint, save_checkpoint

# Of properties/distillation.yaml: what is the method's own, and not the student's or the teachers'.
OWN = {"base_loss_weight", "curriculum", "distillation_weight", "start_config", "start_from", "user_batches"}

PIPELINE = "recbole_hetcomp.commands.pipeline"  # has the order of the draws
Run = Callable[[Config, Split], Mapping[str, Any]]


def check_start(config: Config) -> None:
    """Raise a UserError for a `start_from` that cannot be trained as asked, before anything is trained."""
    name = config["start_from"]
    if name is None:
        if config["start_config"]:
            raise UserError("start_config: nothing is trained with it unless start_from names a model; name one, or drop it")
        return
    model = get_model(name, "start_from")
    if not is_distilled(model) or model.type != ModelType.GENERAL:
        raise UserError(f"start_from: {name!r} is no distilled model; name one, such as FitNetStudent, or leave it out")
    if name == config.model:
        raise UserError(f"start_from: {name} would begin with its own result; name another distilled model")
    first = first_config(config)
    if first["start_from"] is not None:
        raise UserError(f"start_config: {name} would itself begin with {first['start_from']}; leave its start_from out")
    first.warn_of_unknown_keys("start_config")
    check_settings(first, "start_config: ")


def first_config(config: Config) -> Config:
    """The Config of the model that is trained first: the same student, teachers and split, and its own method's settings."""
    name = str(config["start_from"])
    path = properties_of(str(config["student"]))
    of_student = (config.read_yaml(path) if path is not None else {}) or {}
    of_run = {*config.read_yaml(properties_dir() / "distillation.yaml"), *of_student, "threads"} - OWN
    training = set(config.parameters["Training"])
    same = {key: config[key] for key in of_run if key in config and key not in training}
    return derive(config, name, {**same, **config["start_config"]}, seed=config["seed"])


def first_student(config: Config, split: Split, pool: TeacherPool, run: Run) -> tuple[str, dict[str, Tensor]]:
    """The folder of the model that `config` starts from, and its served state; trained now where it is not there.

    Args:
        pool: the run's teachers, which are those of the first model too
        run: trains a distilled model on the split and gives its result, as `run_on_split`

    Raises:
        UserError: what is kept of it cannot be read.
    """
    first = first_config(config)
    prepare(first, split)
    fit_to_data(first, split)

    def train(folder: Path) -> Mapping[str, object]:
        result = run(first, split)
        save_checkpoint(folder / "model.pth", {"state_dict": result["model"].served_state()})
        return {"valid": float(result["best_valid_score"]), "epochs_trained": result["epochs"]}

    with console.about(f"{first.model}, to start from"):
        teachers = [(teacher.name, teacher.trajectory.config_fingerprint) for teacher in pool.teachers]
        shaped_by = {"teachers": teachers, "pipeline": source_fingerprint([], alone=[PIPELINE])}
        folder = cached(first, split.fingerprint, shaped_by, train, home="started")
    try:
        return folder.name, load_checkpoint(folder / "model.pth", map_location=config["device"])["state_dict"]
    except (OSError, LookupError, CheckpointError) as error:
        raise UserError(f"{error}; delete the folder {str(folder)!r} to have {first.model} trained again") from error


def start(model: Any, name: str, folder: str, state: dict[str, Tensor]) -> None:
    """Give the student of `model` the `state` that is kept in `folder`; raises a UserError where it is another student's."""
    try:
        check_state(state, model.served_state())
    except CheckpointError as error:
        raise UserError(f"start_from: {name} in {folder} has another student ({error}); delete the folder") from error
    model.load_served_state(state)
