"""Axes of figures: where a number stands, and which numbers are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

N_TICKS = 6
STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, on a logarithmic scale if asked for; `label` says what of.

    Attributes:
        names: of a few values that are no numbers, which stand at 0, 1, 2, ...
    """

    label: str
    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def over(cls, label: str, values: Iterable[Optional[float]], *, log: bool = False, room: float = 0.06) -> Axis:
        """An axis that holds all `values` with some `room` at both ends; values that are None have no place."""
        known = [value for value in values if value is not None]
        if not known:
            return cls(label, 0.0, 1.0)
        low, high = min(known), max(known)
        if log and low > 0:
            reach = max((math.log10(high) - math.log10(low)) * room, 0.05)
            return cls(f"{label} (logarithmic)", 10 ** (math.log10(low) - reach), 10 ** (math.log10(high) + reach), log=True)
        reach = (high - low) * room or abs(high) * 0.1 or 1.0
        return cls(label, low - reach, high + reach)

    @classmethod
    def of_names(cls, label: str, names: Iterable[str]) -> Axis:
        """An axis of values that are no numbers."""
        known = tuple(names)
        return cls(label, -0.5, len(known) - 0.5, names=known)

    def at(self, value: float) -> float:
        """Where a value stands: 0 at the low end, 1 at the high one."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (math.log10(max(value, self.low)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """The numbers that are written at the axis, with their texts."""
        if self.names:
            return [(float(place), name) for place, name in enumerate(self.names)]
        if self.log and self.high / self.low >= 4:
            return [(number, short(number)) for number in self._log_ticks()]
        return self._even_ticks()

    def _log_ticks(self) -> list[float]:
        """1, 2, 5, 10, ... times a power of ten; of long axes the powers alone, or some of them."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        inside = [number for number in every if self.low <= number <= self.high]
        if len(inside) > N_TICKS:
            inside = [number for number in (10.0**power for power in powers) if self.low <= number <= self.high]
        return inside[:: max(1, math.ceil(len(inside) / N_TICKS))]

    def _even_ticks(self) -> list[tuple[float, str]]:
        width = self.high - self.low
        power = 10 ** math.floor(math.log10(width / N_TICKS))
        step = next(factor * power for factor in STEPS if width / (factor * power) <= N_TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9) + (step / power == 2.5))
        return [(number * step, _even(number * step, digits)) for number in range(first, last + 1)]


def _even(value: float, digits: int) -> str:
    if digits > 6 or abs(value) >= 1e5:
        return short(value)
    return f"{value + 0.0:,.{digits}f}"


def short(value: float) -> str:
    """A number in few characters: 1.2 M, 3 k, 0.05."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {sign}"
    return f"{value:.3g}"
