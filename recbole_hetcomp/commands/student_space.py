"""The shapes that a student may have: a model, and values of the settings that make it smaller or larger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.config.registry import backbone_class, family_of, properties_of

SIZES = [4, 6, 8, 12, 16, 24, 32]
DEFAULT = {
    "MF": {"embedding_size": SIZES},
    "ML": {"embedding_size": SIZES},
    "HistoryEncoder": {"embedding_size": SIZES, "hidden_size": [0, 8, 16, 32]},
    "LightGCN": {"embedding_size": SIZES, "n_layers": [1, 2, 3, 4]},
}
MOST_SHAPES = 100_000  # of a space


@dataclass(frozen=True)
class Shape:
    """A student before it is made.

    Attributes:
        model: the name of its class
        values: (setting, value) each
    """

    model: str
    values: tuple[tuple[str, Any], ...]

    @property
    def settings(self) -> dict[str, Any]:
        """The values by setting."""
        return dict(self.values)

    @property
    def of_a_run(self) -> dict[str, Any]:
        """The settings of a run whose student it is."""
        return {"student": self.model, **self.settings}


@dataclass(frozen=True)
class Space:
    """All shapes to choose from.

    Attributes:
        choices: by model, and by setting, the values
    """

    choices: Mapping[str, Mapping[str, list[Any]]]

    @classmethod
    def read(cls, path: Path | None, config: Config) -> Space:
        """The space of a yaml file, DEFAULT without one.

        Raises:
            UserError: there is no such file, or it is not of the form `MF: {embedding_size: [4, 8]}`, or names a model that
                cannot be a student, or a setting that this model does not have.
        """
        if path is None:
            return cls(DEFAULT)
        if not path.is_file():
            raise UserError(f"space: there is no file {str(path)!r}; correct the path")
        choices = config.read_yaml(path)
        if not (isinstance(choices, dict) and choices and all(isinstance(part, dict) and part for part in choices.values())):
            raise UserError(f"space: {str(path)!r} must have lines such as `MF: {{embedding_size: [4, 8]}}`")
        for model, settings in choices.items():
            _check_model(str(model), settings, config)
        space = cls(choices)
        if space.size > MOST_SHAPES:
            raise UserError(f"space: {space.size:,} shapes are more than {MOST_SHAPES:,}; leave some values out")
        return space

    @property
    def size(self) -> int:
        """How many shapes there are."""
        return sum(prod(map(len, settings.values())) for settings in self.choices.values())

    def shapes(self) -> list[Shape]:
        """All of them."""
        return [
            Shape(model, tuple(zip(settings, values)))
            for model, settings in self.choices.items()
            for values in product(*settings.values())
        ]

    def one_a_value(self) -> list[Shape]:
        """As few shapes as name each value of each setting once, the other settings at their first values."""
        found = {
            Shape(model, tuple((key, value if key == changed else others[0]) for key, others in settings.items())): None
            for model, settings in self.choices.items()
            for changed, values in settings.items()
            for value in values
        }
        return list(found)

    def mutated(self, shape: Shape, generator: torch.Generator) -> Shape:
        """The shape with one choice made anew: another model, which keeps the values that it may have, or another value."""
        genes = ["", *(key for key, values in self.choices[shape.model].items() if len(values) > 1)]
        genes = genes if len(self.choices) > 1 else genes[1:]
        if not genes:
            return shape
        gene = genes[_below(len(genes), generator)]
        model, kept = shape.model, {key: value for key, value in shape.values if key != gene}
        if not gene:
            model = _another(list(self.choices), model, generator)
        values = {}
        for key, allowed in self.choices[model].items():
            if key == gene:
                values[key] = _another(allowed, shape.settings[key], generator)
            else:
                values[key] = kept[key] if kept.get(key) in allowed else allowed[_below(len(allowed), generator)]
        return Shape(model, tuple(values.items()))


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _another(values: list[Any], than: Any, generator: torch.Generator) -> Any:
    """One of the values, drawn uniformly from the others."""
    others = [value for value in values if value != than]
    return others[_below(len(others), generator)]


def _check_model(model: str, settings: Mapping[str, Any], config: Config) -> None:
    if family_of(backbone_class(model, "space")) == "sequential":
        raise UserError(f"space: {model} is asked by sequences and has no vectors of users; take general recommenders")
    path = properties_of(model)
    known = (config.read_yaml(path) or {}) if path is not None else {}
    for key, values in settings.items():
        if key not in known:
            near = close_matches(str(key), list(known)) or f"; its own are {', '.join(known)}"
            raise UserError(f"space: {model} has no setting {shown(key)}{near}")
        if not isinstance(values, list) or not values or any(isinstance(value, (list, dict)) for value in values):
            raise UserError(f"space: {key} of {model} is {shown(values)}; give a list of single values, such as [4, 8]")
        default = known[key]
        for value in values:
            if type(value) is not type(default) and not (type(value) is int and isinstance(default, float)):
                what = f"{shown(value)} is no {type(default).__name__}, as its default {default} is"
                raise UserError(f"space: {key} of {model}: {what}")
        if len(set(values)) < len(values):
            raise UserError(f"space: {key} of {model} names a value twice: {shown(values)}")
