"""RecBole's own functions take this package's models: `run_recbole`, `run`, `objective_function`, `load_data_and_model`.

What they are called with for a model of RecBole goes on to RecBole. The rest of the package is loaded when they are called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from recbole_hetcomp.compat.repairs import QUICK_START
from recbole_hetcomp.compat.replacing import Undo, replaced

Model = Union[str, type, None]
Stock = Callable[..., Any]


def take_our_models() -> Undo:
    """Puts ours in the place of RecBole's functions, in the module and in the package that hands them on."""
    module, package = importlib.import_module(QUICK_START), importlib.import_module("recbole.quick_start")
    ours = {"run": run, "run_recbole": run_recbole, "objective_function": objective_function}
    made = {name: make(vars(module)[name]) for name, make in {**ours, "load_data_and_model": load_data_and_model}.items()}
    undos = [
        replaced(owner, **{name: function for name, function in made.items() if name in vars(owner)})
        for owner in (module, package)
    ]
    return lambda: [undo() for undo in undos]


def run_recbole(stock: Stock) -> Stock:
    """RecBole's `run_recbole`; of a model of ours `run_hetcomp`."""

    def run_recbole(
        model: Model = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, object] | None = None,
        saved: bool = True,
        queue: Any = None,
    ) -> Any:
        if not is_ours(model, dataset, config_file_list, config_dict):
            return stock(model, dataset, config_file_list, config_dict, saved, queue)
        return _quick_start().run_hetcomp(model, dataset, config_file_list, config_dict, saved)

    return run_recbole


def run(stock: Stock) -> Stock:
    """RecBole's `run`; of a model of ours in one process `run_hetcomp`, in several a sentence."""

    def run(
        model: Model,
        dataset: str,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, object] | None = None,
        saved: bool = True,
        nproc: int = 1,
        world_size: int = -1,
        **processes: Any,
    ) -> Any:
        if not is_ours(model, dataset, config_file_list, config_dict):
            return stock(model, dataset, config_file_list, config_dict, saved, nproc, world_size, **processes)
        if nproc != 1 or world_size > 0:
            errors = importlib.import_module("recbole_hetcomp.config.errors")
            raise errors.UserError(f"nproc: {nproc} processes train {model} by the command `hetcomp --nproc={nproc}` alone")
        return _quick_start().run_hetcomp(model, dataset, config_file_list, config_dict, saved)

    return run


def objective_function(stock: Stock) -> Stock:
    """RecBole's `objective_function` for HyperTuning; of a model of ours this package's."""

    def objective_function(
        config_dict: Mapping[str, object] | None = None,
        config_file_list: Sequence[str] | None = None,
        saved: bool = True,
    ) -> Any:
        if not is_ours(None, None, config_file_list, config_dict):
            return stock(config_dict, config_file_list, saved)
        return _quick_start().objective_function(config_dict, config_file_list, saved, arguments=None)

    return objective_function


def load_data_and_model(stock: Stock) -> Stock:
    """RecBole's `load_data_and_model`; of a checkpoint of ours what the run had: its own split and loaders."""

    def load_data_and_model(model_file: Any) -> tuple[Any, ...]:
        checkpoint = importlib.import_module("recbole_hetcomp.trainer.checkpoint").load_checkpoint(model_file)
        settings = checkpoint.get("config")
        if not isinstance(settings, dict) or not isinstance(settings.get("model"), str) or not is_ours(settings["model"]):
            return stock(model_file)
        student = importlib.import_module("recbole_hetcomp.serving.student")
        config, model, split = student.load_with_split(model_file)
        return (config, model, split.whole, *split.loaders(config))

    return load_data_and_model


def is_ours(
    model: Model,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
) -> bool:
    """Whether the model, or that which the settings or the command line name, is not one of RecBole's.

    Raises:
        UserError: there is no model of that name.
    """
    if model is None:
        model = (config_dict or {}).get("model") or _named_in(config_file_list)  # type: ignore[assignment]
    if isinstance(model, str):
        model = importlib.import_module("recbole_hetcomp.config.registry").get_model(model)
    return isinstance(model, type) and not model.__module__.startswith("recbole.")


def _named_in(files: Sequence[str] | None) -> str | None:
    """The model that the command line or, after it, the last of some files names."""
    for argument in sys.argv[1:]:
        if argument.startswith("--model="):
            return argument.partition("=")[2]
    reading, values, preset, errors = (
        importlib.import_module(f"recbole_hetcomp.config.{name}") for name in ("reading", "values", "preset", "errors")
    )
    named = None
    for file in files or ():
        try:
            settings = reading.read_settings(Path(preset.preset_or_file(str(file))), values.SettingsLoader)
        except errors.UserError:  # RecBole says what is amiss with it
            continue
        named = settings.get("model", named)
    return None if named is None else str(named)


def _quick_start() -> Any:
    return importlib.import_module("recbole_hetcomp.quick_start")
