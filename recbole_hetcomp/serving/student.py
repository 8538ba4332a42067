"""A saved model, loaded without any teacher; a student of this package without the data files, too."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.data.dataset import Dataset, SequentialDataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.registry import properties_dir, properties_of
from recbole_hetcomp.data.files import check_files, check_folder, interaction_files
from recbole_hetcomp.data.split import NOT_LOADED, Split, make_split, split_seed
from recbole_hetcomp.data.stored import stored_split, with_growth
from recbole_hetcomp.data.views import dataset_class
from recbole_hetcomp.trainer.building import build_to_fill
from recbole_hetcomp.trainer.checkpoint import DATA, CheckpointError, load_checkpoint, load_into

INTERVALS = ("user_inter_num_interval", "item_inter_num_interval")  # of RecBole's filter


def load_student(path: str | Path, *, arguments: Sequence[str] = ()) -> tuple[Config, AbstractRecommender, Dataset]:
    """A model that this package or RecBole saved.

    A distilled student serves from the data in its checkpoint. Where the data files are there as well, their new
    interactions of its users with its items are known, too.

    Args:
        path: the checkpoint
        arguments: `--key=value` settings that replace saved ones, such as `--data_path=...` on another machine

    Returns:
        (config, model in evaluation mode, the whole dataset with its id maps)

    Raises:
        UserError: no such file, or not the dataset that the model was trained on.
        CheckpointError: not a checkpoint, or one that would execute code.
    """
    config, model, split = load_with_split(path, arguments=arguments)
    return config, model, split.whole


def load_with_split(path: str | Path, *, arguments: Sequence[str] = ()) -> tuple[Config, AbstractRecommender, Split]:
    """As `load_student`, with the split that the model was trained on in place of the whole dataset."""
    if any(argument.partition("=")[0] == "--topk" for argument in arguments):
        raise UserError("topk: it is of the evaluation; leave it out, and say by --k how long a list of recommendations is")
    if not Path(path).is_file():
        raise UserError(f"checkpoint: there is no file {str(path)!r}; give the .pth file of a finished run")
    checkpoint = load_checkpoint(path)
    settings = checkpoint.get("config")
    lacking = [name for name in ("config", "state_dict") if not isinstance(checkpoint.get(name), dict)]
    if not isinstance(settings, dict) or lacking:
        raise UserError(f"checkpoint: {str(path)!r} lacks {' and '.join(lacking)}; give the .pth file of a finished run")
    unnamed = [name for name in ("model", "dataset") if not isinstance(settings.get(name), str)]
    if unnamed:
        raise UserError(
            f"checkpoint: {str(path)!r} has a config without {' and '.join(unnamed)}; give the .pth file of a finished run"
        )
    config = Config(settings["model"], settings["dataset"], config_dict=settings, arguments=arguments)
    _check_given(config, settings, path)
    split = _split_in(checkpoint, config, path) if DATA in checkpoint else make_split(config)
    if settings.get("id_fingerprint", split.id_fingerprint) != split.id_fingerprint:
        raise UserError(
            f"checkpoint: dataset {config.dataset!r} has other users or items, or another order of them"
            f"{', or other ranges of numbers' if config.family == 'context' else ''}, than when {str(path)!r} was trained; "
            "restore the data it was trained on"
        )
    try:
        model = build_to_fill(config, split.train_for(config))
    except UserError as error:
        raise UserError(f"checkpoint: {str(path)!r}: {error}; or give the .pth of a finished run") from error
    try:
        load_into(model, checkpoint, path)
    except CheckpointError as error:
        raise UserError(f"checkpoint: {error}; restore the data it was trained on, or train it anew") from error
    return config, model.eval(), split


def _split_in(checkpoint: Mapping[str, Any], config: Config, path: str | Path) -> Split:
    """The split in a checkpoint; its whole dataset has what the data files, where they are, have beside."""
    try:
        split = stored_split(checkpoint[DATA], config)
    except ValueError as error:
        raise UserError(
            f"checkpoint: {shown(Path(path))} has data that no training writes, {error}; train it anew"
        ) from error
    init_seed(split_seed(config), config["reproducibility"])
    files = interaction_files(config)
    if not all(file.is_file() for file in files):
        if "data_path" in config.cmd_config_dict:
            check_files(config)  # which says what is missing
        getLogger().warning(f"there is no file {shown(files[0])}: what users have is what the checkpoint says")
        return split
    try:
        return dataclasses.replace(split, whole=with_growth(split.whole, _current(config)))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"checkpoint: dataset {config.dataset!r} {error}, on which {shown(Path(path))} was trained; restore them, or "
            "move the data away to serve from the checkpoint alone"
        ) from error


def _current(config: Config) -> Dataset:
    """The interactions that the data files have now, in the order of time where the model is of sequences.

    Whoever has grown beyond the intervals of the training, or not up to them, is there: who is served is in the checkpoint.
    """
    check_files(config)
    kind, unfiltered = dataset_class(config), copy.copy(config)
    unfiltered.final_config_dict = {**config.final_config_dict, **dict.fromkeys(INTERVALS)}
    try:
        dataset = kind(unfiltered)
        Dataset._change_feat_format(dataset)  # not SequentialDataset's, which makes a row of each sequence
        if issubclass(kind, SequentialDataset):
            dataset.sort(by=[dataset.uid_field, dataset.time_field])
    except NOT_LOADED as error:
        raise UserError(f"dataset {config.dataset!r} cannot be loaded: {error or type(error).__name__}") from error
    return dataset


def _check_given(config: Config, saved: Mapping[str, object], path: str | Path) -> None:
    """Raise a UserError for a setting of the command line that shaped the saved model, and for a folder that is none."""
    check_folder(config.dataset, config.cmd_config_dict)
    files = [properties_of(config.model), properties_of(str(config["student"])), properties_dir() / "distillation.yaml"]
    shaping = {key for path in files if path is not None and path.is_file() for key in config.read_yaml(path) or {}}
    for key, value in config.cmd_config_dict.items():
        if key in shaping | {*config.parameters["Training"]} and value != saved.get(key):
            has = f"has {shown(saved[key])}" if key in saved else "has no such setting"
            raise UserError(
                f"{key}: {shown(value)} is a setting of the training, and {shown(Path(path))} {has}; leave {key} out, or "
                "train a model with it"
            )
