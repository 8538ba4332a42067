"""The Config of each teacher, and whether it can be trained as asked: read before any of them is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole.utils import ModelType

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.derived import derive
from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.config.registry import family_of, get_model, is_distilled, properties_dir
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.split import split_seed
from recbole_hetcomp.teacher_training.recorder import Selection
from recbole_hetcomp.teacher_training.side_by_side import check_backend
from recbole_hetcomp.teachers.lists import is_list_file


def check_teachers(config: Config) -> None:
    """Raise a UserError for teachers that cannot be trained as asked; `config` has passed `check_settings`."""
    names = config["teachers"]
    settings = config["teacher_config"]
    if not all(isinstance(value, dict) for value in settings.values()):
        raise UserError(f"teacher_config: {settings!r} is not of the form {{'LightGCN': {{'n_layers': 2}}}}")
    for name in settings:
        if name not in names and name != "all":
            raise UserError(f"teacher_config: {name!r} is no teacher of this run{close_matches(name, [*names, 'all'])}")
    checkpoint_selection(config)
    check_backend(config["teacher_backend"])
    for name in map(str, names):
        if names.count(name) > 1:
            raise UserError(f"teachers: {name!r} is named twice; name each teacher once")
        if is_list_file(name):
            if not Path(name).is_file():
                near = _files_near(Path(name)) or "; correct the path"
                raise UserError(f"teachers: there is no file {shown(Path(name))} with ranked lists or vectors{near}")
            if config.family == "context":
                raise UserError(
                    f"teachers: {name!r} has lists or vectors, which predict no clicks; name context-aware models, such as "
                    "DCNV2"
                )
        elif Path(name).suffix or Path(name).name != name or Path(name).is_file():
            raise UserError(
                f"teachers: {shown(Path(name))} is neither a model nor a file of a form that is read: a table of ranked "
                "lists is a .csv, .tsv, .inter or .parquet, RecDistillery's file a .teacher, lists or vectors of this "
                "package are a .safetensors; give it such a name"
            )
        else:
            own = teacher_config(config, name)
            own.warn_of_unknown_keys(f"teacher_config of {name}")
            check_settings(own, f"teacher_config of {name}: ")


def _files_near(path: Path) -> str:
    """`; did you mean 'lists/mine.csv'?` of the files beside a path that is none."""
    there = [str(file) for file in path.parent.glob("*") if is_list_file(file.name)] if path.parent.is_dir() else []
    return close_matches(str(path), there)


def teacher_config(config: Config, name: str) -> Config:
    """A teacher's Config: RecBole's defaults, our settings for it, `teacher_config`'s part for all, then its own part."""
    model = get_model(name, "teachers")
    kind, clicks = model.type.name.lower().replace("_", "-"), config.family == "context"
    if clicks and family_of(model) != "context":
        raise UserError(
            f"teachers: {name!r} is a {kind} model, and {config.model} learns from context-aware ones; take DCNV2, xDeepFM "
            "or AutoInt"
        )
    if not clicks and family_of(model) not in ("general", "sequential"):
        raise UserError(
            f"teachers: {name!r} is a {kind} model that reads more than interactions; take a general or sequential one"
        )
    if is_distilled(model):
        raise UserError(f"teachers: {name!r} is itself distilled from teachers; name the models that it learns from")
    given = {**config["teacher_config"].get("all", {}), **config["teacher_config"].get(name, {})}
    return derive(config, name, given, seed=split_seed(config), defaults=training_settings(config, name))


def training_settings(config: Config, name: str) -> dict[str, Any]:
    """How a model is trained unless the user says otherwise.

    That is properties/teacher/<name>.yaml, where there is one, and what the preset of the dataset has for this model.
    """
    path = properties_dir() / "teacher" / f"{name}.yaml"
    settings = config.read_yaml(path) if path.is_file() else {}
    settings.update(config.preset_of(config.dataset)["model_config"].get(name, {}))
    if get_model(name).type == ModelType.TRADITIONAL:
        settings["eval_step"] = 1  # RecBole trains these for one epoch, and keeps nothing that it has not validated
    return settings


def checkpoint_selection(config: Config) -> Selection:
    """How a teacher's checkpoints are chosen: `trajectory_rule`, `trajectory_fractions` and `consistency_window`.

    Raises:
        UserError: the fractions do not rise from above 0 to 1.
    """
    rule, fractions = config["trajectory_rule"], config["trajectory_fractions"]
    if sorted(fractions) != list(fractions) or fractions[-1] != 1 or fractions[0] <= 0:
        raise UserError(f"trajectory_fractions: {fractions!r} must rise from above 0 to 1, such as [0.25, 0.5, 0.75, 1.0]")
    return Selection(rule, tuple(fractions), int(config["consistency_window"]), config["valid_metric_bigger"])
