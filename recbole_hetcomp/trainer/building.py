"""Models as RecBole makes them: from a Config and a dataset, on the device of the run."""

from __future__ import annotations

import re
from pathlib import Path
from traceback import extract_tb

from recbole.data.dataset import Dataset
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError, shorter
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.files.archive import CheckpointError
from recbole_hetcomp.files.disk import refusal

# What RecBole's models and torch end in where a setting has a value that they cannot use
NOT_BUILT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
NO_MEMORY = re.compile("not enough memory|can't allocate|out of memory|unable to allocate|calculation overflowed", re.I)

_filled: list[str] = []  # models that are being built for a checkpoint of theirs


def build_model(config: Config, dataset: Dataset) -> AbstractRecommender:
    """The model of `config` for the users and items of `dataset`, on its device.

    Raises:
        UserError: the settings make no model, or one larger than the memory.
        CheckpointError: a model that it starts from cannot be read, or does not fit.
    """
    construct_transform(config)  # BERT4Rec reads settings that RecBole makes there, when it makes loaders
    try:
        model: AbstractRecommender = config.model_class(settings_of(config), dataset).to(config["device"])
    except (UserError, CheckpointError):  # the latter of the model that it starts from
        raise
    except NOT_BUILT as error:
        if refusal(error):  # of the disk
            raise
        raise UserError(f"{config.model} cannot be made: {why_not_built(error)}") from error
    return model


def build_to_fill(config: Config, dataset: Dataset) -> AbstractRecommender:
    """As `build_model`, for a checkpoint of the model that is given to it at once: no other file is read.

    Raises:
        UserError: as `build_model`.
    """
    _filled.append(config.model)
    try:
        return build_model(config, dataset)
    finally:
        _filled.pop()


def is_filled_later() -> bool:
    """Whether the model that is being built is given a checkpoint of its own at once."""
    return bool(_filled)


def why_not_built(error: Exception) -> str:
    """What of an error in a model's constructor a person can mend, and where it was raised."""
    told = " ".join(f"{type(error).__name__} {error}".split())
    if isinstance(error, MemoryError) or NO_MEMORY.search(told):
        return (
            f"it needs more memory than there is ({shorter(told, 120)}); lower its sizes, such as embedding_size, or take "
            "fewer users and items"
        )
    path, line = ([frame for frame in frames_of(error) if frame[0].suffix == ".py"] or [(Path("?"), 0)])[-1]
    return f"{shorter(told, 160)} ({path.name}, line {line}); correct its settings"


def frames_of(error: Exception) -> list[tuple[Path, int]]:
    """(file, line) of each call on the way to where an error was raised."""
    return [(Path(frame.filename), frame.lineno or 0) for frame in extract_tb(error.__traceback__)]
