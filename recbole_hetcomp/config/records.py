"""Records that are read back: JSON files that this package wrote, checked before a number of them is used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_hetcomp.config.errors import UserError

MAX_BYTES = 2**24
LARGEST = 2**63  # no number in a record is as large

Kind = Callable[[object], bool]


def is_count(value: object) -> bool:
    """A whole number of at least 0."""
    return type(value) is int and 0 <= value < LARGEST


def is_number(value: object) -> bool:
    """A finite number that fits a float."""
    return type(value) in (int, float) and abs(value) < LARGEST  # type: ignore[arg-type]


def is_score(value: object) -> bool:
    """A finite number, or NaN where there was no validation."""
    return is_number(value) or (isinstance(value, float) and math.isnan(value))


def is_duration(value: object) -> bool:
    """A finite number of at least 0."""
    return is_number(value) and value >= 0  # type: ignore[operator]


def each(kind: Kind) -> Kind:
    """A list or a dict with text as keys, not empty, whose values are all of a kind."""

    def is_each(values: object) -> bool:
        if isinstance(values, dict):
            values = list(values.values()) if all(isinstance(key, str) for key in values) else []
        return isinstance(values, list) and len(values) > 0 and all(kind(value) for value in values)

    return is_each


def read_record(path: Path, form: Mapping[str, Kind], remedy: str) -> dict[str, Any]:
    """The record in a file, which has the entries of `form`, each of its kind.

    Args:
        remedy: what a person is to do where it is damaged

    Raises:
        UserError: it cannot be read, or an entry is missing or of another kind
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is larger than any record")
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"it is a {type(record).__name__}, not a dict")
        for name, kind in form.items():
            if name not in record or not kind(record[name]):
                raise ValueError(f"{name} is {str(record.get(name, 'missing'))[:40]!r}")
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({str(error)[:120]}); {remedy}") from error
    return record
