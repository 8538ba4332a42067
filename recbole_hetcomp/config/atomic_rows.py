"""What a value of RecBole's atomic files may not be, in the words of whoever finds it: the check before, or the reader."""

from __future__ import annotations

import os
from typing import Union

from recbole_hetcomp.config.errors import shorter, shown

PathLike = Union[str, "os.PathLike[str]"]

# what pandas takes for a missing value: in a column of numbers it is one
MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"}
MISSING |= {"NA", "NULL", "NaN", "None", "n/a", "nan", "null"}


def of_another_width(line: int, path: PathLike, found: int, wanted: int, separator: str) -> str:
    """Of a row with more or fewer columns than the header; `line` is 1 for the header's."""
    return (
        f"line {line} of {_shown(path)} has {found} columns and its header {wanted}; mend it (quotation marks have no "
        f"meaning in these files), or name the character that stands between columns (field_separator: {separator!r})"
    )


def of_no_text(line: int, path: PathLike) -> str:
    """Of a row with the character NUL, at which pandas ends a token."""
    return f"line {line} of {_shown(path)} holds the character NUL, so it is no text; mend it"


def of_no_number(line: int, path: PathLike, value: str, column: str) -> str:
    """Of a text in a column of numbers."""
    return (
        f"line {line} of {_shown(path)} has {shown(value)} as {shorter(column)}, which is no number; mend it, or leave the "
        "column out with load_col"
    )


def _shown(path: PathLike) -> str:
    return shorter(repr(os.fspath(path)), 160)
