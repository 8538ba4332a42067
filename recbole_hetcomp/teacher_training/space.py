"""The settings of a model that a search tries: properties/space/<Model>.yaml, a line a setting.

`learning_rate: {low: 0.001, high: 0.02}` is a range, searched on a logarithmic scale; its ends may be ratios with one and
the same count (config/ratios.py). `n_layers: [1, 2, 3]` is a choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.ratios import Ratio
from recbole_hetcomp.config.registry import properties_dir, settings_of_any_model

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Range:
    """Positive numbers between `low` and `high`.

    Attributes:
        low: the least
        high: the largest
        below: where a count of the data stands here, both ends are `number / below`
        whole: whether the setting is a whole number
    """

    low: float
    high: float
    below: str | None = None
    whole: bool = False

    @classmethod
    def read(cls, low: object, high: object, *, whole: bool = False) -> Range:
        """From the two ends, numbers or ratios; raises a ValueError where they make no range."""
        ends = [Ratio.read(end) or Ratio(str(end), "1") for end in (low, high)]
        least, most = (float(end.above) for end in ends)
        if ends[0].below != ends[1].below or not 0 < least < most < math.inf:
            raise ValueError(f"{low!r} to {high!r} is no range of positive numbers")
        below = None if ends[0].below == "1" else ends[0].below
        return cls(least, most, below, whole=whole and below is None)

    def number(self, value: object) -> float | None:
        """What a search calls the setting's `value`; None where it lies outside."""
        ratio = Ratio.read(value)
        if (ratio.below if ratio else None) != self.below:
            return None
        try:
            number = float(ratio.above if ratio else value)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # no number at all, or a count above
            return None
        return number if self.low <= number <= self.high else None

    def suggest(self, trial: Trial, key: str) -> object:
        """The value that `trial` gives the setting `key`, with three digits."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=True)
        number = float(f"{trial.suggest_float(key, self.low, self.high, log=True):.3g}")
        return number if self.below is None else f"{number:g} / {self.below}"


@dataclass(frozen=True)
class Choice:
    """One of some values; optuna knows them by their text, as a list is no category."""

    values: tuple[object, ...]

    @classmethod
    def read(cls, values: list[object]) -> Choice:
        """From a list; raises a ValueError where it is empty."""
        if not values:
            raise ValueError("there is nothing to choose from")
        return cls(tuple(values))

    def number(self, value: object) -> str | None:
        """What a search calls the setting's `value`; None where it is none of the values."""
        return str(value) if value in self.values else None

    def suggest(self, trial: Trial, key: str) -> object:
        """The value that `trial` gives the setting `key`."""
        by_text = {str(value): value for value in self.values}
        return by_text[trial.suggest_categorical(key, list(by_text))]


Space = Mapping[str, Union[Range, Choice]]


def check_values(config: Config, settings: Mapping[str, object]) -> None:
    """Raise a ValueError for a setting whose value is not what its yaml file says that it may be."""
    declared = config.declarations()
    for key, value in settings.items():
        if key in declared:
            declared[key].check(value)


def space_of(config: Config) -> Space:
    """What a search tries for the model of `config`, but for the settings that the user has chosen.

    Raises:
        UserError: the file says what is no space, or names a setting that the model does not have.
    """
    path = properties_dir() / "space" / f"{config.model}.yaml"
    lines = (config.read_yaml(path) if path.is_file() else None) or {}
    if not isinstance(lines, dict):
        raise UserError(f"{path.name}: {lines!r} is no space; write lines such as learning_rate: {{low: 0.001, high: 0.02}}")
    space: dict[str, Range | Choice] = {}
    declared = config.declarations()
    for key, near in config.unknown_keys(lines).items():
        if near and key not in settings_of_any_model():  # one that is near none may be read without a line anywhere
            raise UserError(f"{path.name}: {config.model} has no setting {key!r}; take the line out{near}")
    for key, values in lines.items():
        try:
            ends = values if isinstance(values, list) else [values["low"], values["high"]]
            whole = key in declared and declared[key].kind.base == "int"
            space[key] = Choice.read(values) if isinstance(values, list) else Range.read(*ends, whole=whole)
            for end in ends:
                check_values(config, {key: end})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path.name}: {key}: {values!r} is neither {{low: 0.001, high: 0.02}} nor a list ({error})"
            ) from error
    return {key: part for key, part in space.items() if not config.given(key)}
