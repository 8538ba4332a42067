"""What is given as a setting's value, as the plain Python value that is meant."""

from __future__ import annotations

import ast
import builtins
import copy
import os
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import yaml
from recbole.config import configurator


class SettingsLoader(yaml.SafeLoader):
    """Reads plain data and nothing else, by RecBole's rule for what is a number."""

    @classmethod
    def with_rule_of(cls, build: Callable[[], type[yaml.Loader]]) -> type[SettingsLoader]:
        """This loader, with the rule of the loader that RecBole's `build` makes."""
        if "yaml_implicit_resolvers" not in vars(cls):  # once a process: RecBole adds its rule again at each call
            cls.yaml_implicit_resolvers = build().yaml_implicit_resolvers
        return cls


def literal(text: str) -> object:
    """The value that a string spells, such as `[1, 2]` or `true`; the string itself where it spells none."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text == "~":  # as the yaml files write nothing
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


@lru_cache(maxsize=4096)  # each Config asks for each of its texts
def calls_a_function(text: str) -> bool:
    """Whether evaluating `text`, as RecBole's Config does with every string setting, could call something."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound = {*vars(builtins), *vars(configurator), *assigned}
    called = [_root(node.func) for node in nodes if isinstance(node, ast.Call)]
    # `data (1)/toy` parses as a call too, but of a name that nothing binds: it fails before anything runs
    return any(not isinstance(root, ast.Name) or root.id in bound for root in called)


def _root(function: ast.expr) -> ast.expr:
    """What is evaluated first of `function`: `data` of `data.v1`."""
    while isinstance(function, ast.Attribute):
        function = function.value
    return function


def plain(value: object) -> object:
    """A copy of `value` in which numpy's numbers and arrays are Python's numbers and lists, and paths are strings."""
    if isinstance(value, (np.generic, np.ndarray)):
        number_or_list: object = value.tolist()
        return number_or_list
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if type(value) is tuple:
        return tuple(plain(part) for part in value)
    return copy.deepcopy(value)
