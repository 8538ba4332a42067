"""The functions behind the rows of the table that keep RecBole from running what a file or a setting holds."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import numpy as np
import yaml
from recbole.config import Config, configurator
from recbole.data import create_dataset, data_preparation
from recbole.model.context_aware_recommender import kd_dagfm
from recbole.trainer import hyper_tuning
from recbole.utils import get_model, init_logger, init_seed
from torch import nn

from recbole_hetcomp.compat.pretrained import PathLike, load_pretrained
from recbole_hetcomp.compat.repairs import QUICK_START
from recbole_hetcomp.compat.replacing import Undo, replaced
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.values import SettingsLoader, literal

TEACHER_NETWORKS = ("CrossNet", "CIN")  # of KD_DAGFM


# files


def refuse_saved_data(file: IO[bytes]) -> None:
    """In the place of `pickle.load`, for the datasets and loaders that RecBole has saved; raises a UserError."""
    raise UserError(
        f"save_dataset, save_dataloaders: {file.name!r} is a pickle, which could run code, and is not read; "
        "move it away, and it is made anew from the dataset's files"
    )


def item_embeddings(path: str, allow_pickle: bool = False) -> np.ndarray[Any, Any]:
    """In the place of `np.load`, for LDiffRec: [items, size] numbers; `allow_pickle`, which RecBole asks for, is not heeded.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError("it holds no numbers")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"n_cate: LDiffRec cannot read {path!r} ({str(error)[:120]}); save a row of numbers for each item there with "
            "numpy.save, or choose n_cate: 1"
        ) from error
    return array


class _SavedConfig(Config):
    """A Config of what a file holds, whatever the command line says."""

    def _load_cmd_line(self) -> dict[str, object]:
        return {}


def load_data_and_model(model_file: PathLike) -> tuple[Any, ...]:
    """RecBole's function of this name, reading the file as data.

    Returns:
        (config, model, dataset, loaders of the training, validation and test part)

    Raises:
        CheckpointError: the file is damaged, of another format, or refers to something that could run code.
    """
    from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_into  # which imports this package

    checkpoint = load_pretrained(model_file)
    settings = checkpoint.get("config")
    if not isinstance(settings, dict) or not {"model", "dataset"} <= set(settings):
        raise CheckpointError(f"{model_file} has no config with a model and a dataset")
    config = _SavedConfig(settings["model"], settings["dataset"], config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    load_into(model, checkpoint, model_file)
    return (config, model, dataset, *loaders)


def load_saved_models_as_data() -> Undo:
    """Puts our `load_data_and_model` in the two places where RecBole has its own; the function returned takes it back."""
    modules = [importlib.import_module(name) for name in (QUICK_START, "recbole.quick_start")]
    undos = [replaced(module, load_data_and_model=load_data_and_model) for module in modules]
    return lambda: [undo() for undo in undos]


# settings


def teacher_network(name: str) -> type[nn.Module]:
    """In the place of `eval`, for KD_DAGFM: the network that is called so.

    Raises:
        UserError: there is none.
    """
    if name not in TEACHER_NETWORKS:
        raise UserError(f"teacher: {shown(name)} is none of {', '.join(TEACHER_NETWORKS)}")
    network: type[nn.Module] = vars(kd_dagfm)[name]
    return network


def read_settings_as_literals() -> Undo:
    """Reads strings as the values that they spell, where RecBole's Config and HyperTuning evaluate them."""
    undos = [replaced(configurator, eval=literal), replaced(hyper_tuning, eval=ast.literal_eval)]
    return lambda: [undo() for undo in undos]


def building_a_safe_loader(stock: Callable[[Config], type[yaml.Loader]]) -> Callable[[Config], type[SettingsLoader]]:
    """`Config._build_yaml_loader` that makes plain data alone, by RecBole's rule for what is a number."""

    def build_yaml_loader(self: Config) -> type[SettingsLoader]:
        return SettingsLoader.with_rule_of(partial(stock, self))

    return build_yaml_loader
