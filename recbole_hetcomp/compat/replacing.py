"""What a repair is, and its means: putting something in the place of what a module or a class has, and taking it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Undo = Callable[[], object]
_MISSING = object()


@dataclass(frozen=True)
class Repair:
    """One row: `needed` asks the installed libraries, `apply` repairs and returns the function that takes it back."""

    name: str
    issue: str
    when: str
    needed: Callable[[], bool]
    apply: Callable[[], Undo]
    replaces_recbole: bool = True  # then only in the version it was written for


class Overlay:
    """A module with some names replaced, to be bound to its name inside one other module."""

    def __init__(self, module: object, **names: object) -> None:
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> object:
        return getattr(self.__dict__["_module"], name)


def replaced(owner: object, **values: object) -> Undo:
    """Sets attributes of `owner`; the function returned restores what was there."""
    before = {name: vars(owner).get(name, _MISSING) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)

    def undo() -> None:
        for name, value in before.items():
            delattr(owner, name) if value is _MISSING else setattr(owner, name, value)

    return undo


def is_stock(function: Callable[..., object]) -> bool:
    """Whether `function` is RecBole's own, which nobody has replaced yet."""
    return function.__module__.startswith("recbole.")


def wrapped(owner: object, name: str, wrapper: Callable[[Callable[..., Any]], object]) -> Callable[[], Undo]:
    """A repair that puts `wrapper(stock)` in the place of the function `stock` that `owner` has by that name."""
    return lambda: replaced(owner, **{name: wrapper(getattr(owner, name))})
