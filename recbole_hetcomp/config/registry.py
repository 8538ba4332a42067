"""From a name to a class: our models first, then other packages' (entry points), then RecBole's.

RecBole looks a name up in several packages and, for an unknown one, ends in an unrelated import error; here it gets one
sentence with the nearest known names.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import recbole
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import ModelType

import recbole_hetcomp
from recbole_hetcomp.config.errors import UserError, close_matches

ENTRY_POINTS = "recbole_hetcomp.methods"
KINDS = ("general", "context_aware", "sequential", "knowledge_aware")
OURS = ("distilled_recommender", "general_recommender")
HOMES = (*(f"recbole_hetcomp.model.{kind}" for kind in OURS), *(f"recbole.model.{kind}_recommender" for kind in KINDS))
# These need libraries of their own, and RecBole imports them for any name that it does not know.
EXTERNAL = dict.fromkeys(("xgboost", "lightgbm"), "recbole.model.exlib_recommender")


def get_model(name: str, setting: str = "model") -> type:
    """The model class of that name, from the file of that name in lower case, as RecBole has it.

    Args:
        name: of the class
        setting: the setting that names it

    Raises:
        UserError: there is no such model; the sentence offers close matches.
    """
    homes = (EXTERNAL[name.lower()],) if name.lower() in EXTERNAL else HOMES
    for module in (f"{home}.{name.lower()}" for home in homes if name.isidentifier()):
        if importlib.util.find_spec(module) is not None:
            found = vars(importlib.import_module(module)).get(name)
            if found is not None:
                return found
    for entry in _plugins():
        if entry.name == name:
            return entry.load()
    near = f"; did you mean '{name}Student'?" if f"{name}Student" in known_models() else close_matches(name, known_models())
    near = near or "; give the name of a class, such as MF or LightGCN"
    raise UserError(f"{setting}: there is no model named {name!r}{near}")


def known_models() -> list[str]:
    """Names of all models that can be asked for, ours first."""
    ours = [path.stem for path in sorted(properties_dir().glob("model/*.yaml"))]
    theirs = [path.stem for path in sorted((Path(recbole.__file__).parent / "properties" / "model").glob("*.yaml"))]
    return list(dict.fromkeys([*ours, *(entry.name for entry in _plugins()), *theirs]))


def is_distilled(model_class: type) -> bool:
    """Whether models of that class learn from teachers."""
    return hasattr(model_class, "learn_from")


def recommends_unseen(model_class: type) -> bool:
    """Whether models of that class recommend what a user has not had; others take repeats for data."""
    return getattr(model_class, "type", None) in (ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.KNOWLEDGE)


def backbone_class(name: str) -> Any:
    """The class of the student `name`.

    Raises:
        UserError: there is no such model, or it is no general recommender, or it is not trained by gradients.
    """
    backbone: Any = get_model(name, "student")
    if not issubclass(backbone, GeneralRecommender) or is_distilled(backbone):
        raise UserError(f"student: {name!r} is no general recommender; choose MF, ML, DL, LightGCN or HistoryEncoder")
    if backbone.type == ModelType.TRADITIONAL:
        raise UserError(f"student: {name} has no scores that can be trained; choose MF, ML, DL or HistoryEncoder")
    return backbone


def properties_dir() -> Path:
    """The folder of our yaml files: inside the installed package, or beside it in a source checkout."""
    here = Path(recbole_hetcomp.__file__).resolve().parent
    return here / "properties" if (here / "properties").is_dir() else here.parent / "properties"


def properties_of(model: str) -> Path | None:
    """The yaml file with a model's settings, ours before RecBole's; None where neither has one."""
    for folder in (properties_dir(), Path(recbole.__file__).parent / "properties"):
        if (folder / "model" / f"{model}.yaml").is_file():
            return folder / "model" / f"{model}.yaml"
    return None


def settings_of_any_model() -> set[str]:
    """Names of all settings in all yaml files, ours and RecBole's."""
    folders = (properties_dir(), Path(recbole.__file__).parent / "properties")
    lines = [line for folder in folders for path in folder.rglob("*.yaml") for line in path.read_text("utf-8").splitlines()]
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


def _plugins() -> list[Any]:
    found: Any = entry_points()
    # Python 3.9 has no `select`: there entry_points() is a plain dict of groups.
    return list(found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, []))
