"""Checkpoints that are data: reading one never runs code, writing one never leaves half a file.

Two kinds of file are read. The package's own holds tensors and plain values only, so `torch.load(weights_only=True)`
takes it as it is; RecBole's goes through `restricted.py`. Both use RecBole's names for the parts (`config`,
`state_dict`, `other_parameter`, `optimizer`, `epoch`, `cur_step`, `best_valid_score`).
"""

from __future__ import annotations

import io
import os
import pickle
import types
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Union

import torch
from recbole.config import Config
from torch import Tensor, nn

from recbole_hetcomp.config.values import calls_a_function
from recbole_hetcomp.trainer.restricted import (
    SCALARS,
    CheckpointError,
    Record,
    as_json,
    is_class_instance,
    rebuilt,
    restricted_pickle,
)

__all__ = [
    "CheckpointError",
    "load_checkpoint",
    "load_recbole_checkpoint",
    "plain_config",
    "plain_state",
    "save_checkpoint",
]

PathLike = Union[str, "os.PathLike[str]"]

#: Settings RecBole derives anew. Given back to `Config` they would overrule it; `local_rank` starts a process group.
DERIVED = {"MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "local_rank", "single_spec"}

_DAMAGE = (
    *(RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, EOFError),
    pickle.UnpicklingError,
)


def load_checkpoint(
    path: PathLike, map_location: torch.device | str = "cpu", *, known: Iterable[type] = ()
) -> dict[str, Any]:
    """The content of a checkpoint of this package or of RecBole, as tensors, arrays and plain values.

    Args:
        known: further classes that a RecBole file may mention, such as a user's own model; none is instantiated

    Raises:
        CheckpointError: the file is damaged, of another format, or refers to something that could run code
        OSError: the file cannot be opened
    """
    path = Path(path)
    if _pickle_protocol(path) > 2:
        return load_recbole_checkpoint(path, map_location, known=known)
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        return load_recbole_checkpoint(path, map_location, known=known)
    except _DAMAGE as error:
        raise CheckpointError(f"{path} cannot be read, it may be damaged or cut short: {error}") from error
    return _checked(path, state)


def load_recbole_checkpoint(
    path: PathLike, map_location: torch.device | str = "cpu", *, known: Iterable[type] = ()
) -> dict[str, Any]:
    """The content of a file that RecBole's Trainer saved; `config` comes back as `plain_config` gives it.

    Modules among `other_parameter` are left out: their weights are in `state_dict`, the model's constructor makes them.

    Raises:
        CheckpointError, OSError: as `load_checkpoint`
    """
    path = Path(path)
    _pickle_protocol(path)
    reader = restricted_pickle({(cls.__module__, cls.__qualname__) for cls in known})
    try:
        state = torch.load(path, map_location=map_location, pickle_module=reader, weights_only=False)
        if isinstance(state, dict):
            state = {name: _section(name, value) for name, value in state.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path} was refused: {error}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{path} cannot be read, it may be damaged or cut short: {error}") from error
    return _checked(path, state)


def save_checkpoint(path: PathLike, state: Mapping[str, Any]) -> None:
    """Writes `state` for `torch.load(path, weights_only=True)`; an older file stays until the new one is whole.

    Raises:
        TypeError: a value is neither a tensor nor a plain value (dict, list, tuple, str, int, float, bool, None)
        OSError: the file cannot be written; an older one is untouched
    """
    path = Path(path)
    _require_plain(state, "state")
    content = io.BytesIO()  # written from memory: torch's own file writer hides the cause when the disk is full
    torch.save(dict(state), content)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the checkpoint {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def plain_config(config: Config) -> dict[str, Any]:
    """The settings of a RecBole Config in JSON types; `Config(config_dict=...)` makes the same settings from them.

    Enums become their names, devices strings, tuples lists. Left out are classes and what RecBole derives anew
    (`DERIVED`). `data_path` is the folder above the dataset's, since Config appends the dataset's name.

    Args:
        config: a Config, or the dict of a Config that was saved this way
    """
    settings = config if isinstance(config, dict) else config.final_config_dict
    plain = as_json({key: value for key, value in settings.items() if key not in DERIVED})
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


def _pickle_protocol(path: Path) -> int:
    """The pickle protocol inside torch's zip archive; every other kind of file is refused."""
    with open(path, "rb") as file:
        start = file.read(4)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            opening = archive.read(pickled[0])[:2] if len(pickled) == 1 else b""
    except zipfile.BadZipFile as error:
        if start in (b"", b"PK\x03\x04"):
            raise CheckpointError(f"{path} is damaged or cut short: {error}") from error
        raise CheckpointError(
            f"{path} is not a zip archive of torch.save; other formats, such as torch's before 1.6, can run code and "
            "are not read. Save the weights again with a current torch"
        ) from error
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise CheckpointError(f"{path} is a TorchScript program, not a checkpoint; save the model's state_dict instead")
    if len(opening) < 2 or opening[0] != pickle.PROTO[0]:
        raise CheckpointError(f"{path} is a zip archive without the data.pkl of torch.save, so not a checkpoint")
    return opening[1]


def _section(name: str, value: object) -> object:
    """One top-level entry of a RecBole checkpoint as data."""
    if name == "config":
        return plain_config(types.SimpleNamespace(**value.state) if isinstance(value, Record) else value)
    if name == "other_parameter" and isinstance(value, dict):
        return {key: rebuilt(item) for key, item in value.items() if not is_class_instance(item)}
    return rebuilt(value)


def _checked(path: Path, state: object) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not the dict of a checkpoint")
    config = state.get("config")
    for key, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, str) and calls_a_function(value):
            raise CheckpointError(
                f"{path} was refused: RecBole's Config evaluates its settings, and {key!r} would call a function: "
                f"{value[:60]!r}"
            )
    return state
