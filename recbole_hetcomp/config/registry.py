"""From a name to a class: our models first, then other packages' (entry points), then RecBole's.

RecBole looks a name up in several packages and, for an unknown one, ends in an unrelated import error; here it gets one
sentence with the nearest known names.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from logging import getLogger
from pathlib import Path
from typing import Any

import recbole
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType

import recbole_hetcomp
from recbole_hetcomp.config.errors import UserError, close_matches

RECBOLE = Path(recbole.__file__).resolve().parent
ENTRY_POINTS = "recbole_hetcomp.methods"
KINDS = ("general", "context_aware", "sequential", "knowledge_aware")
OURS = tuple(f"recbole_hetcomp.model.{kind}_recommender" for kind in ("distilled", "general", "sequential", "context_aware"))
THEIRS = tuple(f"recbole.model.{kind}_recommender" for kind in KINDS)
# These need libraries of their own, and RecBole imports them for any name that it does not know.
EXTERNAL = dict.fromkeys(("xgboost", "lightgbm"), "recbole.model.exlib_recommender")


def get_model(name: str, setting: str = "model") -> type[AbstractRecommender]:
    """The model class of that name, from the file of that name in lower case, as RecBole has it.

    Args:
        name: of the class
        setting: the setting that names it

    Raises:
        UserError: there is no such model (the sentence offers close matches), or its package cannot be imported.
    """
    found = _class_in(OURS, name)
    if found is None:
        found = next((_loaded(entry, setting) for entry in _plugins() if entry.name == name), None)
    if found is None:
        found = _class_in((EXTERNAL[name.lower()],) if name.lower() in EXTERNAL else THEIRS, name)
    if found is not None:
        return found
    near = f"; did you mean '{name}Student'?" if f"{name}Student" in known_models() else close_matches(name, known_models())
    near = near or "; give the name of a class, such as MF or LightGCN"
    raise UserError(f"{setting}: there is no model named {name!r}{near}")


def _class_in(homes: Sequence[str], name: str) -> type[AbstractRecommender] | None:
    """The class of that name in the first of the packages `homes` that has its module."""
    for module in (f"{home}.{name.lower()}" for home in homes if name.isidentifier()):
        if importlib.util.find_spec(module) is not None:
            found: type[AbstractRecommender] | None = vars(importlib.import_module(module)).get(name)
            if found is not None:
                return found
    return None


def _loaded(entry: EntryPoint, setting: str) -> type[AbstractRecommender]:
    """The class that another package announces."""
    try:
        found: type[AbstractRecommender] = entry.load()
    except ImportError as error:
        raise UserError(f"{setting}: {entry.name!r} is {entry.value}, which cannot be imported ({error})") from error
    return found


def known_models() -> list[str]:
    """Names of all models that can be asked for, ours first."""
    ours = [path.stem for path in sorted(properties_dir().glob("model/*.yaml"))]
    theirs = [path.stem for path in sorted((RECBOLE / "properties" / "model").glob("*.yaml"))]
    return list(dict.fromkeys([*ours, *(entry.name for entry in _plugins()), *theirs]))


def is_distilled(model_class: type) -> bool:
    """Whether models of that class learn from teachers."""
    return hasattr(model_class, "learn_from")


def recommends_unseen(model_class: type) -> bool:
    """Whether models of that class recommend what is new to a user; to the other kinds repeats are data."""
    return getattr(model_class, "type", None) in (ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.KNOWLEDGE)


def predicts_clicks(model_class: type) -> bool:
    """Whether models of that class, of distilled ones the student, are context-aware: they predict clicks of rows."""
    return getattr(model_class, "type", None) == ModelType.CONTEXT


def family_of(model_class: type) -> str | None:
    """`general`, `sequential` or `context`; None for models that neither teach nor learn here.

    RecBole's sequential models that read more than the sequence of items have datasets of their own, or need columns that
    only some data have; they run alone.
    """
    kind = getattr(model_class, "type", None)
    if kind == ModelType.SEQUENTIAL:
        return None if model_class.__name__ in READ_MORE else "sequential"
    by_kind = {ModelType.GENERAL: "general", ModelType.TRADITIONAL: "general", ModelType.CONTEXT: "context"}
    return by_kind.get(kind)


# RecBole's sequential models with further columns of the items, knowledge graphs, or a protocol of drawn items
READ_MORE = {"DIEN", "DIN", "FDSA", "GRU4RecF", "GRU4RecKG", "KSR", "S3Rec", "SASRecF"}


def backbone_class(name: str, setting: str = "student") -> type[AbstractRecommender]:
    """The class of the student `name`, which `setting` names.

    Raises:
        UserError: there is no such model, or it is no recommender of items, or it is not trained by gradients.
    """
    backbone = get_model(name, setting)
    if family_of(backbone) not in ("general", "sequential") or is_distilled(backbone):
        raise UserError(
            f"{setting}: {name!r} is no general recommender, nor a sequential one of items; choose MF, ML, DL, LightGCN, "
            "HistoryEncoder, GRU4Rec or SASRec"
        )
    if backbone.type == ModelType.TRADITIONAL:
        raise UserError(f"{setting}: {name} has no scores that can be trained; choose MF, ML, DL or HistoryEncoder")
    return backbone


def student_class(model_class: type, name: str) -> type[AbstractRecommender]:
    """The class of the student `name` of a distilled model: one that ranks, or, of models that learn clicks, context-aware.

    Raises:
        UserError: there is no such model, or it is of another kind.
    """
    if not predicts_clicks(model_class):
        return backbone_class(name)
    student = get_model(name, "student")
    if family_of(student) != "context" or is_distilled(student):
        raise UserError(
            f"student: {name!r} is no context-aware model, and {model_class.__name__} learns to predict clicks; choose "
            "DAGFM, FM or DeepFM"
        )
    return student


def properties_dir() -> Path:
    """The folder of our yaml files: inside the installed package, or beside it in a source checkout."""
    return _properties_of_package(recbole_hetcomp.__file__)


@cache  # asked for a hundred times a run
def _properties_of_package(file: str) -> Path:
    here = Path(file).resolve().parent
    return here / "properties" if (here / "properties").is_dir() else here.parent / "properties"


def properties_of(model: str) -> Path | None:
    """The yaml file with a model's settings: ours, that of another package or RecBole's; None where there is none."""
    if (properties_dir() / "model" / f"{model}.yaml").is_file():
        return properties_dir() / "model" / f"{model}.yaml"
    for entry in _plugins():
        if entry.name == model:
            return _properties_of_plugin(entry)
    theirs = RECBOLE / "properties" / "model" / f"{model}.yaml"
    return theirs if theirs.is_file() else None


def own_properties_of(model_class: type) -> Path | None:
    """The yaml file of a model class that is not RecBole's: among ours, or beside the class in its package.

    For `TopTenStudent` that is toptenstudent.yaml or TopTenStudent.yaml in the folder of the file that defines the class,
    or properties/TopTenStudent.yaml there or in a folder above it, up to the top of its package.
    """
    source = getattr(sys.modules.get(model_class.__module__), "__file__", None)
    return _properties_beside(model_class.__name__, model_class.__module__, source)


def _properties_beside(name: str, module: str, source: str | None) -> Path | None:
    """The yaml file of the class `name` in `module`, whose file is `source`."""
    places = [properties_dir() / "model" / f"{name}.yaml"]
    if source is not None:
        home = Path(source).resolve().parent
        places += [home / f"{name.lower()}.yaml", home / f"{name}.yaml"]
        places += [folder / "properties" / f"{name}.yaml" for folder in [home, *home.parents][: module.count(".") + 1]]
    return next((path for path in places if path.is_file()), None)


def _properties_of_plugin(entry: EntryPoint) -> Path | None:
    """The yaml file of another package's model, beside the module that its entry point names; nothing is imported for it.

    Only where none is there, since the module may have the class from another one, is the class asked for.
    """
    found = _properties_beside(entry.attr, entry.module, _source_of(entry.module))
    if found is not None:
        return found
    try:
        return own_properties_of(entry.load())
    except Exception as error:  # whatever is wrong with another package must not end a run that does not use it
        getLogger().warning(f"the entry point {entry.name} = {entry.value} is left out: it cannot be loaded ({error})")
        return None


def _source_of(module: str) -> str | None:
    """The file of a module that need not be imported; None where it is not to be found."""
    top, *below = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for name in below:
            spec = spec and PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    except (ImportError, KeyError, ValueError):  # a half-installed package, or one that has no spec
        return None
    return spec.origin if spec else None


def settings_of_any_model() -> set[str]:
    """Names of all settings in all yaml files: ours, RecBole's and those of other packages' models.

    Presets by data set and search spaces, which a person may write, name settings and declare none.
    """
    files = [path for folder in (properties_dir(), RECBOLE / "properties") for path in folder.rglob("*.yaml")]
    files = [path for path in files if path.parent not in (properties_dir() / "dataset", properties_dir() / "space")]
    files += filter(None, map(_properties_of_plugin, _plugins()))
    lines = [line for path in files for line in path.read_text("utf-8").splitlines()]
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


def _plugins() -> list[EntryPoint]:
    """What other packages announce.

    To read it takes 10 ms, so it is read again only where a folder of packages has changed: a package that is installed into
    one is found by a running process, and one that is edited in its place is not.
    """
    return _announced(tuple((path, os.stat(path or ".").st_mtime_ns) for path in sys.path if os.path.exists(path or ".")))


@lru_cache(maxsize=1)
def _announced(_folders: tuple[tuple[str, int], ...]) -> list[EntryPoint]:
    found: Any = entry_points()
    # Python 3.9 has no `select`: there entry_points() is a plain dict of groups.
    return list(found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, []))
