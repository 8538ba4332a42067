"""The functions behind the table in `recbole_hetcomp.compat`, in its order.

A function named `...ing` takes RecBole's own method and returns the one to put in its place, which adds what was
amiss and leaves the rest to RecBole. The others are the replacement itself, or make the change and return its undoing.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any, Union

import numpy as np
import recbole
import scipy.sparse
import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import dataset
from recbole.evaluator.collector import Collector, DataStruct
from recbole.trainer import trainer

from recbole_hetcomp.compat.replacing import Overlay, Undo, is_stock, replaced

PathLike = Union[str, "os.PathLike[str]"]
Samples = tuple[list[int], list[int]]  # ids of users and of items


QUICK_START = "recbole.quick_start.quick_start"


class LazyTune:
    """Stands for `ray.tune` inside RecBole: reports to a ray that somebody else imported, and is silent without one."""

    def report(self, **metrics: object) -> None:
        """`ray.tune.report` where ray is loaded; else nothing."""
        tune = sys.modules.get("ray.tune")
        if tune is not None:
            tune.report(**metrics)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return getattr(importlib.import_module("ray.tune"), name)
        except ImportError as error:
            raise ImportError(f"ray.tune.{name} needs ray, which does not import here; try ray<=2.6.3, numpy<2") from error


def quick_start_would_import_ray() -> bool:
    """Whether neither ray nor RecBole's quick start has been imported yet."""
    return "ray" not in sys.modules and QUICK_START not in sys.modules


def import_quick_start_without_ray() -> Undo:
    """Imports RecBole's quick start with `LazyTune` in ray's place; undone, the next import takes ray itself."""
    placeholder = types.ModuleType("ray")
    vars(placeholder)["tune"] = LazyTune()
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


def quick_start_has_its_own(name: str) -> bool:
    """Whether RecBole's quick start, which needs ray or the repair of this name, is there with its own function `name`."""
    quick_start = sys.modules.get(QUICK_START)
    return "ray" in sys.modules if quick_start is None else is_stock(vars(quick_start)[name])


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


def set_missing_numpy_names(config: Config) -> None:
    """The names RecBole uses, where numpy lacks them; those that numpy has keep their meaning."""
    for name, value in NUMPY_NAMES.items():
        if name not in vars(np):
            setattr(np, name, value)


def sine_detects_anomalies() -> bool:
    """Whether anomaly detection is on by SINE's import, or will be; if it is on without SINE, somebody wants it."""
    return (SINE in sys.modules) == torch.is_anomaly_enabled()


def import_sine_quietly() -> Undo:
    """Imports SINE, as RecBole does with the first sequential model, and turns anomaly detection off again."""
    importlib.import_module(SINE)
    torch.autograd.set_detect_anomaly(False)
    return partial(torch.autograd.set_detect_anomaly, True)


def update_entries(matrix: scipy.sparse.dok_matrix, entries: dict[tuple[int, int], float]) -> None:
    """Sets many entries of a `dok_matrix` at once, unchecked."""
    matrix._dict.update(entries)


# torch.load: refuses RecBole's checkpoints since torch 2.6, and ran whatever they contained before


def restore(trainer: trainer.Trainer, path: PathLike) -> dict[str, Any]:
    """Loads weights and other parameters of a checkpoint into `trainer.model`; returns the checkpoint."""
    from recbole_hetcomp.trainer.checkpoint import load_checkpoint, load_into

    checkpoint = load_checkpoint(path, map_location=trainer.device, known=(type(trainer.model),))
    load_into(trainer.model, checkpoint, path)
    return checkpoint


def restoring(stock: Callable[..., dict[str, float] | None]) -> Callable[..., dict[str, float] | None]:
    """`Trainer.evaluate` that reads the best model as data; the metrics, or None without data, as RecBole gives them."""

    def evaluate(
        self: trainer.Trainer,
        eval_data: AbstractDataLoader | None,
        load_best_model: bool = True,
        model_file: PathLike | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        if eval_data and load_best_model:
            path = model_file or self.saved_model_file
            restore(self, path)
            self.logger.info(f"Loading model structure and parameters from {path}")
        return stock(self, eval_data, load_best_model=False, show_progress=show_progress)

    return evaluate


def resume_checkpoint(self: trainer.Trainer, resume_file: PathLike) -> None:
    """`Trainer.resume_checkpoint`, reading the file as data."""
    self.saved_model_file = str(resume_file)
    checkpoint = restore(self, resume_file)
    lacking = [name for name in ("epoch", "cur_step", "best_valid_score", "config", "optimizer") if name not in checkpoint]
    if lacking:
        from recbole_hetcomp.files.archive import CheckpointError

        raise CheckpointError(f"{resume_file} lacks {', '.join(lacking)}; no training can go on from it")
    self.start_epoch = checkpoint["epoch"] + 1
    self.cur_step = checkpoint["cur_step"]
    self.best_valid_score = checkpoint["best_valid_score"]
    if checkpoint["config"]["model"].lower() != self.config["model"].lower():
        self.logger.warning(f"The checkpoint is of a {checkpoint['config']['model']}, not of a {self.config['model']}.")
    self.optimizer.load_state_dict(checkpoint["optimizer"])
    self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")


SINE = "recbole.model.sequential_recommender.sine"


# RecBole's own slips


def wait_for_other_processes_alone() -> Undo:
    """Inside RecBole's dataset, `torch.distributed.barrier` is nothing for a single process."""

    def barrier() -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()

    return replaced(dataset, torch=Overlay(torch, distributed=Overlay(torch.distributed, barrier=barrier)))


def collector_stumbles() -> bool:
    """Whether RecBole's Collector ends in an error where a collected value is no tensor."""
    collector = object.__new__(Collector)
    collector.data_struct = DataStruct()
    collector.data_struct.set("data.num_items", 1)
    try:
        collector.get_data_struct()
    except AttributeError:
        return True
    return False


def setting_plain_values_aside(stock: Callable[..., DataStruct]) -> Callable[..., DataStruct]:
    """`Collector.get_data_struct` that moves tensors to the CPU, as ever, and takes other values along as they are."""

    def get_data_struct(self: Collector) -> DataStruct:
        collected = self.data_struct._data_dict
        plain = {name: value for name, value in collected.items() if not isinstance(value, torch.Tensor)}
        self.data_struct._data_dict = {name: value for name, value in collected.items() if name not in plain}
        struct = stock(self)
        for holder in (self.data_struct, struct):
            holder._data_dict.update(plain)
        return struct

    return get_data_struct


def sampling_no_more_than_there_are(stock: Callable[..., Samples]) -> Callable[..., Samples]:
    """DGCF's `sample_cor_samples` that draws at most as many users and items as there are of either."""

    def sample_cor_samples(n_users: int, n_items: int, cor_batch_size: int) -> Samples:
        return stock(n_users, n_items, min(cor_batch_size, n_users, n_items))

    return sample_cor_samples


def learning_the_weights_of_pairs(stock: Callable[..., None]) -> Callable[..., None]:
    """The constructor of FwFM, whose weights of pairs of fields are a parameter: trained, saved and moved with the model."""

    def __init__(self: Any, config: Any, dataset: Any) -> None:  # noqa: N807
        stock(self, config, dataset)
        drawn = self.weight.detach()
        del self.weight
        self.weight = torch.nn.Parameter(drawn)

    return __init__


def todays_amp() -> Undo:
    """Gives RecBole's trainers `torch.amp` for CUDA in the place of the deprecated `torch.cuda.amp`."""
    amp = types.SimpleNamespace(GradScaler=partial(torch.amp.GradScaler, "cuda"), autocast=partial(torch.autocast, "cuda"))
    return replaced(trainer, amp=amp)
