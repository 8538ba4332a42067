"""Checkpoints that are data: reading one never runs code, writing one never leaves half a file.

The package's own files hold tensors and plain values only, so `torch.load(weights_only=True)` takes them as they are. They
and RecBole's are read by `restricted.py`. Both use RecBole's names for the parts (`config`, `state_dict`, `other_parameter`,
`optimizer`, `epoch`, `cur_step`, `best_valid_score`).
"""

from __future__ import annotations

import io
import os
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn

from recbole_hetcomp.config.values import calls_a_function
from recbole_hetcomp.files.archive import CheckpointError, PathLike
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.records import SCALARS, Count, Record, as_json, is_class_instance, rebuilt
from recbole_hetcomp.files.restricted import read_content

__all__ = [
    "DATA",
    "CheckpointError",
    "check_state",
    "load_checkpoint",
    "load_into",
    "plain_config",
    "plain_state",
    "save_checkpoint",
    "save_student",
]

#: Settings RecBole derives anew. Given back to `Config` they would overrule it; `local_rank` starts a process group.
DERIVED = {"MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "local_rank", "single_spec"}
MAX_SETTINGS = 2**20  # values in a Config
DATA = "data"  # the section of a student's checkpoint that `data/stored.py` describes; RecBole reads over it


def load_checkpoint(
    path: PathLike, map_location: torch.device | str = "cpu", *, known: Iterable[type] = ()
) -> dict[str, Any]:
    """The content of a checkpoint of this package or of RecBole, as tensors, arrays and plain values.

    `config` comes back as `plain_config` gives it. Modules among `other_parameter` are left out: their weights are in
    `state_dict`, the model's constructor makes them.

    Args:
        known: further classes that a RecBole file may mention, such as a user's own model; none is instantiated

    Raises:
        CheckpointError: the file is damaged, of another format, or refers to something that could run code
        OSError: the file cannot be opened
    """
    path = Path(path)
    content = read_content(path, map_location, {(cls.__module__, cls.__qualname__) for cls in known})
    try:
        state = content.value
        if not isinstance(state, dict):
            raise CheckpointError(f"it holds a {type(state).__name__}, not the dict of a checkpoint")
        state = {name: _section(name, value, content.met) for name, value in dict.items(state)}
        _check_settings(state.get("config"))
    except CheckpointError as error:
        raise CheckpointError(f"{path} was refused: {error}") from error
    except Exception as error:  # whatever numpy and scipy make of the records of a damaged file
        reason = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise CheckpointError(f"{path} cannot be read, it may be damaged or cut short: {reason}") from error
    return state


def load_into(model: AbstractRecommender, checkpoint: Mapping[str, Any], path: PathLike) -> None:
    """Give `model` the weights and other parameters of a checkpoint that was read from `path`.

    Raises:
        CheckpointError: the weights are another model's, or hold NaN
    """
    other = checkpoint.get("other_parameter") or {}
    try:
        check_state(checkpoint.get("state_dict"), model.state_dict())
        if not isinstance(other, dict) or not set(other) <= set(getattr(model, "other_parameter_name", ())):
            raise CheckpointError("its other_parameter has names that the model does not have")  # they become attributes
    except CheckpointError as error:
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {error}") from error
    model.load_state_dict(checkpoint["state_dict"])
    if other:
        model.load_other_parameter(other)


def check_state(found: object, expected: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError, a clause, unless `found` has the names, shapes and types of `expected`, and no NaN."""
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError("its state_dict is no dict of tensors")
    odd = sorted(map(str, {*found} ^ {*expected}))
    if odd:
        raise CheckpointError(f"its state_dict {'lacks' if odd[0] in expected else 'has'} {odd[0][:60]!r}")
    for name, value in expected.items():
        other = found[name]
        if other.shape != value.shape or other.dtype != value.dtype:
            raise CheckpointError(
                f"its {name[:60]!r} is {other.dtype} of shape {list(other.shape)}, not {value.dtype} of {list(value.shape)}"
            )
        if bool(other.isnan().any()):
            raise CheckpointError(f"its {name[:60]!r} holds NaN")


def save_checkpoint(path: PathLike, state: Mapping[str, Any]) -> None:
    """Writes `state` for `torch.load(path, weights_only=True)`; an older file stays until the new one is whole.

    Raises:
        TypeError: a value is neither a tensor nor a plain value (dict, list, tuple, str, int, float, bool, None)
        OSError: the file cannot be written; an older one is untouched
    """
    _require_plain(state, "state")
    content = io.BytesIO()  # written from memory: torch's own file writer hides the cause when the disk is full
    torch.save(dict(state), content)
    write(path, content.getbuffer())


def save_student(path: PathLike, state: Mapping[str, Any], config: Config, data: Mapping[str, Tensor]) -> None:
    """`save_checkpoint` of a student's `state` with its settings, and with the data that it serves with, if there are any.

    Raises:
        TypeError, OSError: as `save_checkpoint`
    """
    section = {DATA: dict(data)} if data else {}
    save_checkpoint(path, {**state, **section, "config": plain_config(config)})


def plain_config(config: Config, count: Count | None = None) -> dict[str, Any]:
    """The settings of a RecBole Config in JSON types; `Config(config_dict=...)` makes the same settings from them.

    Enums become their names, devices strings, tuples lists. Left out are classes and what RecBole derives anew
    (`DERIVED`). `data_path` is the folder above the dataset's, since Config appends the dataset's name.

    Args:
        config: a Config, or the dict of a Config that was saved this way
        count: of the values that a file may have, where they come from one
    """
    settings = config if isinstance(config, dict) else config.final_config_dict
    plain = as_json({key: value for key, value in settings.items() if key not in DERIVED}, count or Count(MAX_SETTINGS))
    folder, dataset = plain.get("data_path"), plain.get("dataset")
    if settings is not config and folder and dataset and os.path.basename(folder) == dataset:
        plain["data_path"] = os.path.dirname(folder)
    return plain


def plain_state(model: nn.Module) -> dict[str, Any]:
    """`state_dict`, and of `other_parameter` what is tensors and plain values, ready for `save_checkpoint`.

    Arrays, sparse matrices and modules are left out. Of RecBole's general recommenders AsymKNN, ItemKNN, EASE and
    SLIMElastic keep arrays or sparse matrices there; each computes them in its constructor from the training set, as do
    ADMMSLIM and NCEPLRec with the ones they hold outside `other_parameter`.
    """
    listing: Callable[[], Mapping[str, object] | None] = getattr(model, "other_parameter", dict)
    other = listing() or {}
    kept = {name: value for name, value in other.items() if _is_plain(value)}
    return {"state_dict": model.state_dict(), "other_parameter": kept}


def _is_plain(value: object) -> bool:
    try:
        _require_plain(value, "")
    except TypeError:
        return False
    return True


def _require_plain(value: object, where: str) -> None:
    # exact types: numpy.float64 is a float to isinstance, and a numpy object to pickle
    if type(value) in (*SCALARS, Tensor, nn.Parameter):
        return
    if isinstance(value, (dict, OrderedDict)) and type(value) in (dict, OrderedDict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError(f"{where} has the key {key!r}; the keys of a checkpoint are str or int")
            _require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    else:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"{where} is a {name}; a checkpoint takes tensors and plain values, convert it first")


def _section(name: object, value: object, count: Count) -> object:
    """One top-level entry of a checkpoint as data."""
    if not isinstance(name, str):
        raise CheckpointError(f"it has the entry {str(name)[:60]!r}, which is no name")
    if name == "config":
        settings = value.state if isinstance(value, Record) else value
        if isinstance(value, Record) and isinstance(settings, dict):
            return plain_config(types.SimpleNamespace(final_config_dict=settings.get("final_config_dict")), count)
        return plain_config(settings, count) if isinstance(settings, dict) else rebuilt(value, count)
    if name == "other_parameter" and isinstance(value, dict):
        return {key: rebuilt(item, count) for key, item in dict.items(value) if not is_class_instance(item)}
    return rebuilt(value, count)


def _check_settings(config: object) -> None:
    """Raise a CheckpointError for a setting that RecBole's Config would run."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, str) and calls_a_function(value):
            raise CheckpointError(
                f"RecBole's Config evaluates its settings, and {key!r} would call a function: {value[:60]!r}"
            )
