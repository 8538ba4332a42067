"""What RecBole 1.2.1 needs on today's numpy, scipy, torch and pandas: a table, one row a repair.

`install()` runs when `recbole_hetcomp` is imported. Every row asks the installed libraries for the feature it is about,
not for a version, changes nothing where it is not needed, and can be taken back (`uninstall()`). Nothing outside RecBole
is touched, with two exceptions, both names that are missing: scipy's `dok_matrix._update` and, when a RecBole Config is
made, numpy's old type names. `RECBOLE_HETCOMP_COMPAT=0` switches all rows off, a comma-separated list of names those rows.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
import recbole
import scipy.sparse
import torch
from recbole.config import Config
from recbole.data.dataset import dataset as dataset_module
from recbole.evaluator.collector import Collector, DataStruct
from recbole.model.general_recommender import dgcf
from recbole.trainer import trainer as trainer_module
from recbole.utils import FeatureType

WRITTEN_FOR = "1.2.1"
SWITCH = "RECBOLE_HETCOMP_COMPAT"
Undo = Callable[[], None]
_MISSING = object()


@dataclass(frozen=True)
class Repair:
    """One row: `needed` asks the installed libraries, `apply` repairs and returns the function that takes it back."""

    name: str
    issue: str
    when: str
    needed: Callable[[], bool]
    apply: Callable[[], Undo]
    replaces_recbole: bool = True  # then only on the version it was written for


class Overlay:
    """A module with some names replaced, to be bound to its name inside one other module."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


def replaced(owner: Any, **values: Any) -> Undo:
    """Sets attributes of `owner`; the function returned restores what was there."""
    before = {name: vars(owner).get(name, _MISSING) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)

    def undo() -> None:
        for name, value in before.items():
            delattr(owner, name) if value is _MISSING else setattr(owner, name, value)

    return undo


def _is_stock(function: Any) -> bool:
    return function.__module__.startswith("recbole.")


# ray: RecBole imports it for one call in its tuning objective; its pinned version does not import on numpy 2

QUICK_START = "recbole.quick_start.quick_start"


class LazyTune:
    """Stands for `ray.tune` inside RecBole: reports to a ray that somebody else imported, and is silent without one."""

    def report(self, **metrics: Any) -> None:
        tune = sys.modules.get("ray.tune")
        if tune is not None:
            tune.report(**metrics)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return getattr(importlib.import_module("ray.tune"), name)
        except ImportError as error:
            raise ImportError(
                f"ray.tune.{name} needs ray, which does not import here; try ray<=2.6.3, numpy<2"
            ) from error


def _import_quick_start_without_ray() -> Undo:
    placeholder = types.ModuleType("ray")
    placeholder.tune = LazyTune()  # type: ignore[attr-defined]
    sys.modules["ray"] = placeholder
    try:
        importlib.import_module(QUICK_START)
    finally:
        del sys.modules["ray"]

    def undo() -> None:
        for name in (QUICK_START, "recbole.quick_start"):
            sys.modules.pop(name, None)
        vars(recbole).pop("quick_start", None)

    return undo


# numpy and scipy: names that were removed

NUMPY_NAMES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}


def set_missing_numpy_names(config: Any) -> None:
    """The names RecBole uses, where numpy lacks them; those that numpy has keep their meaning."""
    for name, value in NUMPY_NAMES.items():
        if name not in vars(np):
            setattr(np, name, value)


def update_entries(matrix: Any, entries: dict[tuple[int, int], Any]) -> None:
    """Sets many entries of a `dok_matrix` at once, unchecked."""
    matrix._dict.update(entries)


# torch.load: refuses RecBole's checkpoints since torch 2.6, and ran whatever they contained before


def restore(trainer: Any, path: Any) -> dict[str, Any]:
    """Loads weights and other parameters of a checkpoint into `trainer.model`; returns the checkpoint."""
    from recbole_hetcomp.trainer.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path, map_location=trainer.device, known=(type(trainer.model),))
    trainer.model.load_state_dict(checkpoint["state_dict"])
    trainer.model.load_other_parameter(checkpoint.get("other_parameter"))
    return checkpoint


def _restoring(stock: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(
        self: Any, eval_data: Any, load_best_model: bool = True, model_file: Any = None, show_progress: bool = False
    ) -> Any:
        """`Trainer.evaluate`, reading the best model as data."""
        if eval_data and load_best_model:
            path = model_file or self.saved_model_file
            restore(self, path)
            self.logger.info(f"Loading model structure and parameters from {path}")
        return stock(self, eval_data, load_best_model=False, show_progress=show_progress)

    return evaluate


def resume_checkpoint(self: Any, resume_file: Any) -> None:
    """`Trainer.resume_checkpoint`, reading the file as data."""
    self.saved_model_file = str(resume_file)
    checkpoint = restore(self, resume_file)
    self.start_epoch = checkpoint["epoch"] + 1
    self.cur_step = checkpoint["cur_step"]
    self.best_valid_score = checkpoint["best_valid_score"]
    if checkpoint["config"]["model"].lower() != self.config["model"].lower():
        self.logger.warning(f"The checkpoint is of a {checkpoint['config']['model']}, not of a {self.config['model']}.")
    self.optimizer.load_state_dict(checkpoint["optimizer"])
    self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")


PRETRAINED = (
    *(f"recbole.model.general_recommender.{name}" for name in ("convncf", "nais", "neumf", "ract")),
    "recbole.model.context_aware_recommender.kd_dagfm",
    "recbole.model.sequential_recommender.s3rec",
)


def load_pretrained(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """`torch.load` for the models that start from another model's checkpoint."""
    from recbole_hetcomp.trainer.checkpoint import load_checkpoint

    return load_checkpoint(path, map_location)


@contextmanager
def pretrained_loading() -> Iterator[None]:
    """Within it, the models that start from another model's checkpoint read it as data; `install` enters it for good."""
    undos = [replaced(importlib.import_module(name), torch=Overlay(torch, load=load_pretrained)) for name in PRETRAINED]
    try:
        yield
    finally:
        for undo in undos:
            undo()


def _read_pretrained_as_data() -> Undo:
    context = pretrained_loading()
    context.__enter__()
    return lambda: context.__exit__(None, None, None) and None


# pandas: chained `fillna(inplace=True)` warns since 2.2 and does nothing in 3


def _chained_fillna_is_unsafe() -> bool:
    frame = pd.DataFrame({"x": [float("nan")]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame["x"].fillna(0, inplace=True)
    return bool(caught) or bool(frame["x"].isna().any())


def fill_nan(self: Any) -> None:
    """`Dataset._fill_nan`: tokens with the padding id, floats with their mean, sequences with an empty one."""
    for name in self.feat_name_list:
        feat = getattr(self, name)
        for field in feat:
            feat[field] = _filled(feat[field], self.field2type[field])


def _filled(column: pd.Series, kind: FeatureType) -> pd.Series:
    if kind == FeatureType.TOKEN:
        return column.fillna(0)
    if kind == FeatureType.FLOAT:
        return column.fillna(column.mean())
    dtype = np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64
    return column.apply(lambda value: np.array([], dtype=dtype) if isinstance(value, float) else value)


def _refusing_sequences(stock: Callable[..., Any]) -> Callable[..., Any]:
    def load_feat(self: Any, filepath: Any, source: Any) -> Any:
        """`Dataset._load_feat`, refusing sequence columns, which RecBole reads wrongly on pandas 3."""
        load, unload = self._get_load_and_unload_col(source)
        with open(filepath, encoding=self.config["encoding"]) as file:
            header = file.readline().rstrip("\n").split(self.config["field_separator"])
        named = (column.partition(":") for column in header)
        sequences = [field for field, _, kind in named if kind.endswith("_seq")]
        wanted = [field for field in sequences if (load is None or field in load) and field not in (unload or ())]
        if wanted:
            raise NotImplementedError(
                f"RecBole 1.2.1 cannot read the sequence columns {wanted} of {filepath} on pandas {pd.__version__}; "
                "install pandas<3, or leave them out with load_col"
            )
        return stock(self, filepath, source)

    return load_feat


# RecBole's own slips


def _barrier_if_distributed() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def _collector_stumbles() -> bool:
    collector = object.__new__(Collector)
    collector.data_struct = DataStruct()
    collector.data_struct.set("data.num_items", 1)
    try:
        collector.get_data_struct()
    except AttributeError:
        return True
    return False


def _setting_plain_values_aside(stock: Callable[..., Any]) -> Callable[..., Any]:
    def get_data_struct(self: Any) -> Any:
        """`Collector.get_data_struct`, which moves every value to the CPU, also for values that are not tensors."""
        collected = self.data_struct._data_dict
        plain = {name: value for name, value in collected.items() if not isinstance(value, torch.Tensor)}
        self.data_struct._data_dict = {name: value for name, value in collected.items() if name not in plain}
        struct = stock(self)
        for holder in (self.data_struct, struct):
            holder._data_dict.update(plain)
        return struct

    return get_data_struct


def _sampling_no_more_than_there_are(stock: Callable[..., Any]) -> Callable[..., Any]:
    def sample_cor_samples(n_users: int, n_items: int, cor_batch_size: int) -> Any:
        """DGCF's sample of users and items, also where one side is smaller than the sample asked for."""
        return stock(n_users, n_items, min(cor_batch_size, n_users, n_items))

    return sample_cor_samples


def _todays_amp() -> Undo:
    amp = types.SimpleNamespace(
        GradScaler=partial(torch.amp.GradScaler, "cuda"), autocast=partial(torch.autocast, "cuda")
    )
    return replaced(trainer_module, amp=amp)


def _wrapped(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> Callable[[], Undo]:
    return lambda: replaced(owner, **{name: wrapper(getattr(owner, name))})


REPAIRS = (
    Repair(
        "ray",
        "RecBole#1820, #2215",
        "ray is not loaded: RecBole needs it for one call, and ray 2.6.3 fails to import on numpy>=2 or setuptools>=81",
        lambda: "ray" not in sys.modules and QUICK_START not in sys.modules,
        _import_quick_start_without_ray,
    ),
    Repair(
        "numpy_names",
        "RecBole#2215, PR #2187",
        "numpy>=2: Config() reads numpy.float_, which is gone",
        lambda: "float_" not in vars(np) and _is_stock(Config.compatibility_settings),
        lambda: replaced(Config, compatibility_settings=set_missing_numpy_names),
    ),
    Repair(
        "dok_update",
        "RecBole#2034, #2090, #2185",
        "scipy>=1.13: the graph models call dok_matrix._update, which is gone",
        lambda: not hasattr(scipy.sparse.dok_matrix, "_update"),
        lambda: replaced(scipy.sparse.dok_matrix, _update=update_entries),
        replaces_recbole=False,
    ),
    Repair(
        "evaluate",
        "RecBole#2212, #2215",
        "any torch: the best model cannot be read since 2.6, and reading it could run code before",
        lambda: _is_stock(trainer_module.Trainer.evaluate),
        _wrapped(trainer_module.Trainer, "evaluate", _restoring),
    ),
    Repair(
        "resume",
        "RecBole#2212, #2215",
        "any torch, as above, when training is resumed",
        lambda: _is_stock(trainer_module.Trainer.resume_checkpoint),
        lambda: replaced(trainer_module.Trainer, resume_checkpoint=resume_checkpoint),
    ),
    Repair(
        "pretrained",
        "RecBole#2212, PR #2219",
        "any torch, as above, for NeuMF, ConvNCF, NAIS, RaCT, KD_DAGFM and S3Rec with a pretrained path",
        lambda: any(importlib.import_module(name).torch is torch for name in PRETRAINED),
        _read_pretrained_as_data,
    ),
    Repair(
        "fill_nan",
        "not reported",
        "pandas>=2.2 warns and pandas>=3 silently keeps NaN, also in the padding row of every feature",
        lambda: _is_stock(dataset_module.Dataset._fill_nan) and _chained_fillna_is_unsafe(),
        lambda: replaced(dataset_module.Dataset, _fill_nan=fill_nan),
    ),
    Repair(
        "pandas_sequences",
        "not reported",
        "pandas>=3: sequence columns are read wrongly, so they are refused",
        lambda: int(pd.__version__.partition(".")[0]) >= 3 and _is_stock(dataset_module.Dataset._load_feat),
        _wrapped(dataset_module.Dataset, "_load_feat", _refusing_sequences),
    ),
    Repair(
        "download_barrier",
        "not reported",
        "any: a dataset's first download in a single process ends in an error of torch.distributed",
        lambda: dataset_module.torch is torch,
        lambda: replaced(
            dataset_module,
            torch=Overlay(torch, distributed=Overlay(torch.distributed, barrier=_barrier_if_distributed)),
        ),
    ),
    Repair(
        "collector",
        "RecBole#2191",
        "any: ItemCoverage, GiniIndex, AveragePopularity and TailPercentage end in an AttributeError",
        _collector_stumbles,
        _wrapped(Collector, "get_data_struct", _setting_plain_values_aside),
    ),
    Repair(
        "dgcf_sample",
        "not reported",
        "any: DGCF asks for more users than there are when items outnumber them or a batch holds the whole set",
        lambda: _is_stock(dgcf.sample_cor_samples),
        _wrapped(dgcf, "sample_cor_samples", _sampling_no_more_than_there_are),
    ),
    Repair(
        "amp",
        "not reported",
        "torch>=2.4: RecBole calls the deprecated torch.cuda.amp",
        lambda: hasattr(torch.amp, "GradScaler") and trainer_module.amp is torch.cuda.amp,
        _todays_amp,
    ),
)

_status: dict[str, str] = {}
_undos: list[Undo] = []


def install() -> dict[str, str]:
    """Applies every row that is needed here, once; per row "applied", "not needed" or "skipped: reason"."""
    if not _status:
        off = _switched_off()
        for repair in REPAIRS:
            _status[repair.name] = _install(repair, off)
    return dict(_status)


def _install(repair: Repair, off: frozenset[str]) -> str:
    if repair.name in off:
        return f"skipped: switched off by {SWITCH}"
    if repair.replaces_recbole and recbole.__version__ != WRITTEN_FOR:
        return f"skipped: written for RecBole {WRITTEN_FOR}, found {recbole.__version__}"
    if not repair.needed():
        return "not needed"
    _undos.append(repair.apply())
    return "applied"


def _switched_off() -> frozenset[str]:
    value = os.environ.get(SWITCH, "").strip()
    names = frozenset(repair.name for repair in REPAIRS)
    if value == "0":
        return names
    wanted = frozenset(name.strip() for name in value.split(",") if name.strip() not in ("", "1"))
    if wanted - names:
        unknown, known = ", ".join(sorted(wanted - names)), ", ".join(sorted(names))
        warnings.warn(f"{SWITCH} names no repair: {unknown}; there are {known}", stacklevel=3)
    return wanted


def uninstall() -> None:
    """Takes every repair back, the last one first."""
    while _undos:
        _undos.pop()()
    _status.clear()


def report() -> str:
    """Versions and the state of every row, for a bug report."""
    packages = ("recbole", "torch", "numpy", "pandas", "scipy", "ray", "setuptools")
    lines = [f"python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in packages)]
    for repair in REPAIRS:
        status = _status.get(repair.name, "not installed")
        lines.append(f"{repair.name:17} {status}\n{'':17} {repair.when} [{repair.issue}]")
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
