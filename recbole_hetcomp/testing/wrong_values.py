"""Values that a setting cannot have, made from what its yaml file says that it may be; states with a value changed."""

from __future__ import annotations

import copy
from typing import Any

from recbole_hetcomp.config.declarations import Kind, declarations_in
from recbole_hetcomp.config.registry import properties_dir, properties_of

NO_LENGTHS = ("n_experts", "n_groups", "n_neighbours")  # the other n_* count items or users of lists

NEVER: dict[str, list[object]] = {
    "int": [1.5, "x", True],
    "float": ["x", True, float("inf")],
    "str": [3, "", "a\0b"],
    "bool": ["x", 1],
    "dict": [3],
    "list": [3],
}
OUTSIDE = {">=": -1, ">": 0, "<=": 1, "<": 0}  # what to add to a bound


def wrong_values(kind: Kind) -> list[object]:
    """Values that a setting of this kind cannot have: of other types, beyond each bound, or no word of its."""
    wrong = [*NEVER[kind.base], *(_outside(sign, float(bound)) for sign, bound in kind.bounds)]
    wrong += ["no such word"] if kind.words else []
    if kind.many:
        wrong = [3, [], *([value] for value in wrong)]
    return wrong if kind.optional else [*wrong, None]


def _outside(sign: str, bound: float) -> float:
    """A number that does not pass the comparison, whole where the bound is, as a whole number's must be."""
    number = bound + OUTSIDE[sign]
    return int(number) if number.is_integer() else number


def longer_than_the_catalogue(method: str) -> dict[str, int]:
    """All numbers of items or users that any method takes, this one among them: more than `toy` has."""
    files = [*properties_dir().glob("model/*Student.yaml"), properties_of(method)]
    keys = {key for path in files if path is not None for key in declarations_in(path) if key.startswith("n_")}
    return dict.fromkeys(sorted(keys - set(NO_LENGTHS)), 100)


def changed(state: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at `path`; a function is applied to what stands there."""
    state = copy.deepcopy(state)
    place = state
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value(place[path[-1]]) if callable(value) else value
    return state
