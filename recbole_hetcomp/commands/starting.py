"""`start_from`: a distilled model whose student begins as the result of another one, which is trained first, or found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp import console
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.derived import derive
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir, properties_of
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teacher_training.cache import cached, folder_of
from recbole_hetcomp.teacher_training.source import source_fingerprint
from recbole_hetcomp.teacher_training.training import SHAPING_SETTINGS, teacher_folder
from recbole_hetcomp.teacher_training.tuning import prepare
from recbole_hetcomp.teachers.lists import is_list_file
from recbole_hetcomp.trainer.building import build_model
from recbole_hetcomp.trainer.checkpoint import CheckpointError, check_state, load_checkpoint, save_checkpoint

# Of properties/distillation.yaml: what is the method's own, and not the student's or the teachers'.
OWN = {"base_loss_weight", "curriculum", "distillation_weight", "start_config", "start_from", "user_batches"}
# What the first model has of the run, whatever start_config says, beside the student's shape, the data and the protocol.
OF_RUN = {"embedding_size", "resume", "seed", "student", "teacher_backend", "teacher_config", "teacher_workers", "teachers"}
OF_RUN |= {"mask_seen", "points_per_user", *SHAPING_SETTINGS}
# Beside these, what says which teachers are found: of properties/overall.yaml, which a derived Config does not inherit.
SEARCHED = {"split_seed", "tune", "tune_users"}

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
    for key in model.decides:
        if config.given(key):
            raise UserError(f"{key}: {name} finds it; leave {key} out, or write start_from: ~")
    _refuse_what_is_of_the_run(config, name)
    first = first_config(config)
    if first["start_from"] is not None:
        raise UserError(f"start_config: {name} would itself begin with {first['start_from']}; leave its start_from out")
    first.warn_of_unknown_keys("start_config")
    check_settings(first, "start_config: ")


def first_config(config: Config) -> Config:
    """The Config of the model that is trained first: the same student, teachers and split, and its own method's settings."""
    name = str(config["start_from"])
    of_student = _of_student(config)
    of_run = {*config.read_yaml(properties_dir() / "distillation.yaml"), *of_student, *SEARCHED, "threads"} - OWN
    of_run -= {"embedding_size"} - {*of_student} if of_student else set()  # it would not be heeded
    of_run -= {*config.parameters["Training"], *get_model(name).decides}
    same = {key: config[key] for key in of_run if key in config}
    return derive(config, name, {**same, **config["start_config"]}, seed=config["seed"])


def check_first(config: Config, split: Split) -> None:
    """Raise a UserError where the model that is trained first cannot be made, or learns nothing, before any training."""
    if config["start_from"] is None:
        return
    first = first_config(config)
    fit_to_data(first, split)
    try:
        build_model(first, split.train_for(first)).check_trainable()
    except UserError as error:
        raise UserError(f"start_config: {error.sentence}") from error


def started(config: Config, split: Split) -> str:
    """The name of the folder of the model that `config` starts from, be it there or not; "" where it starts from none."""
    if config["start_from"] is None:
        return ""
    first = _prepared(config, split)
    return folder_of(first, split.fingerprint_for(first), _shaped_by(config, split), "started").name


def settled(config: Config, split: Split, run: Run) -> Config:
    """`config` with what the model that it starts from decides, such as an architecture; for that it is trained, or found.

    Args:
        run: as for `first_student`

    Raises:
        UserError: the model of `config` cannot be made, or learns nothing; before the first one is trained.
    """
    decides = () if config["start_from"] is None else get_model(config["start_from"]).decides
    if not decides:
        return config
    build_model(config, split.train_for(config)).check_trainable()
    _, state = first_student(config, split, run)
    found = get_model(config["start_from"]).settings_for_next(first_config(config), state)
    console.say(f"{config['start_from']} has found {', '.join(f'{key}: {value}' for key, value in found.items())}")
    with_these = copy.copy(config)
    with_these.final_config_dict = {**config.final_config_dict, **found}
    with_these.external_config_dict = {**config.external_config_dict, **found}  # the student alone has them too
    return with_these


def first_student(config: Config, split: Split, run: Run) -> tuple[str, dict[str, Tensor]]:
    """The folder of the model that `config` starts from, and its served state; trained now where it is not there.

    Args:
        run: trains a distilled model on the split and gives its result, as `run_on_split`

    Raises:
        UserError: what is kept of it cannot be read.
    """
    first = _prepared(config, split)

    def train(folder: Path) -> Mapping[str, object]:
        result = run(first, split)
        save_checkpoint(folder / "model.pth", {"state_dict": result["model"].served_state()})
        Path(result["checkpoint"]).unlink(missing_ok=True)  # what is kept is the folder's
        return {"valid": float(result["best_valid_score"]), "epochs_trained": result["epochs"]}

    with console.about(f"{first.model}, to start from"):
        folder = cached(first, split.fingerprint_for(first), _shaped_by(config, split), train, home="started")
    try:
        return folder.name, load_checkpoint(folder / "model.pth", map_location=config["device"])["state_dict"]
    except (OSError, LookupError, CheckpointError) as error:
        raise UserError(f"{error}; delete the folder {str(folder)!r} to have {first.model} trained again") from error


def teachers_of(config: Config, split: Split) -> list[str]:
    """What tells each teacher of a run from any other: the content of a file, or what a trained one is kept under."""
    names = map(str, config["teachers"])
    return [
        sha256(Path(name).read_bytes()).hexdigest() if is_list_file(name) else teacher_folder(config, split, name).name
        for name in names
    ]


def start(model: Any, name: str, folder: str, state: dict[str, Tensor]) -> None:
    """Give the student of `model` the `state` that is kept in `folder`; raises a UserError where it is another student's."""
    own = model.served_state()
    if get_model(name).decides:  # a smaller student, whose parameters are among those of the first
        state = {key: value for key, value in state.items() if key in own}
    try:
        check_state(state, own)
    except CheckpointError as error:
        raise UserError(f"start_from: {name} in {folder} has another student ({error}); delete the folder") from error
    model.load_served_state(state)


def _refuse_what_is_of_the_run(config: Config, name: str) -> None:
    own = OF_RUN | SEARCHED | {*_of_student(config)} - {*config.parameters["Training"]}
    own |= {key for group in ("General", "Evaluation", "Dataset") for key in config.parameters[group]}
    for key in config["start_config"]:
        if key in own:
            same = f"as {name} has the same student, teachers and split"
            raise UserError(f"start_config: {key} is the run's own, {same}; leave it out")


def _of_student(config: Config) -> Mapping[str, Any]:
    """The settings of the student's own yaml file."""
    path = properties_of(str(config["student"]))
    return (config.read_yaml(path) if path is not None else {}) or {}


def _prepared(config: Config, split: Split) -> Config:
    """The Config of the first model, as it is trained on the split."""
    first = first_config(config)
    prepare(first, split)
    fit_to_data(first, split)
    return first


def _shaped_by(config: Config, split: Split) -> dict[str, object]:
    source = source_fingerprint([], alone=[PIPELINE])
    return {"teachers": teachers_of(config, split), "pipeline": source, **split.rows_key(config)}
