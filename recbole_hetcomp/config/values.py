"""What is given as a setting's value, as the plain Python value that is meant."""

from __future__ import annotations

import ast
import copy
import os
from collections.abc import Mapping

import numpy as np


def literal(text: str) -> object:
    """The value that a string spells, such as `[1, 2]` or `true`; the string itself where it spells none."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text == "~":  # as the yaml files write nothing
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


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
