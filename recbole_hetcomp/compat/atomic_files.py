"""RecBole's atomic files as they are written: a row a line, a separator between two columns, and every token itself.

pandas, with which RecBole reads them, takes the tokens `NA` and `None` for missing values, drops their rows, and reads on to
the next quotation mark, over the ends of rows, where a token begins with one.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from recbole.data.dataset import dataset
from recbole.utils import FeatureSource

from recbole_hetcomp.compat.replacing import Overlay, Undo, replaced, wrapped
from recbole_hetcomp.config.atomic_rows import MISSING, PathLike, of_another_width, of_no_number, of_no_text


def read_files_as_written() -> Undo:
    """Files are read by `read_atomic_file`, an empty id is refused, and one long token does not widen all others."""
    undos = (
        replaced(dataset, pd=Overlay(dataset.pd, read_csv=read_atomic_file)),
        replaced(dataset.Dataset, _remap=remap),
        wrapped(dataset.Dataset, "_load_feat", refusing_empty_ids)(),
    )
    return lambda: [undo() for undo in reversed(undos)]


def read_atomic_file(
    path: PathLike, *, delimiter: str, usecols: Sequence[str], encoding: str | None = None, **_: object
) -> pd.DataFrame:
    """What `Dataset._load_feat` asks of `pandas.read_csv`.

    Tokens are strings; an empty one is missing, NaN. Numbers are float64; a missing one, as pandas writes them, is NaN.
    A sequence is a string, perhaps empty. Columns that a row ends before are empty; lines without anything are no rows.

    Raises:
        ValueError: a row with more columns than the header; a number that is none; the character NUL.
    """
    blank = _lines_without_a_row(path, delimiter, encoding)
    plain = len(delimiter) == 1 and delimiter.isascii()  # what pandas' fast reader takes
    frame = pd.read_csv(
        path,
        sep=delimiter if plain else re.escape(delimiter),
        usecols=usecols,
        dtype=str,
        encoding=encoding,
        engine="c" if plain else "python",
        quoting=csv.QUOTE_NONE,
        na_filter=False,
        skip_blank_lines=False,  # a row may begin with a token of spaces
        skiprows=blank,
    )[list(usecols)]
    for column in usecols:
        values, kind = frame[column].astype(object), column.rpartition(":")[2]
        if kind == "float":
            frame[column] = _numbers(values, path, delimiter, encoding)
        elif kind == "float_seq":
            frame[column] = values.mask(values.isin(MISSING), "")
        else:
            frame[column] = values.mask(values == "", np.nan) if kind == "token" else values
    return frame


def _lines_without_a_row(path: PathLike, delimiter: str, encoding: str | None) -> list[int]:
    """The blank lines, the first line of the file being 0; raises a ValueError for a row with too many columns or a NUL."""
    blank = []
    with open(path, encoding=encoding) as file:
        width = file.readline().count(delimiter) + 1
        for number, line in enumerate(file, 1):
            found = line.count(delimiter) + 1
            if "\0" in line:
                raise ValueError(of_no_text(number + 1, path))
            if found > width:
                raise ValueError(of_another_width(number + 1, path, found, width, delimiter))
            if line == "\n" or (found < width and line.isspace()):
                blank.append(number)
    return blank


def _line_number(row: int, path: PathLike, delimiter: str, encoding: str | None) -> int:
    """The line in which a row stands, the first line of the file being 1."""
    line = row + 1
    for blank in _lines_without_a_row(path, delimiter, encoding):
        line += blank <= line
    return line + 1


def _numbers(column: pd.Series, path: PathLike, delimiter: str, encoding: str | None) -> pd.Series:
    missing = column.isin(MISSING)
    numbers = pd.to_numeric(column.where(~missing, "nan"), errors="coerce").astype(np.float64)
    wrong = np.flatnonzero(numbers.isna() & ~missing)
    if len(wrong):
        line = _line_number(int(wrong[0]), path, delimiter, encoding)
        raise ValueError(of_no_number(line, path, column[wrong[0]], str(column.name)))
    return numbers


def remap(self: dataset.Dataset, remap_list: list[tuple[pd.DataFrame, str, object]]) -> None:
    """`Dataset._remap`: gives the tokens of some columns their ids, the same in all of them.

    The tokens stay the strings that they are: RecBole's array of them gives each the length of the longest.
    """
    if not remap_list:
        return
    tokens, ends = self._concat_remaped_tokens(remap_list)
    ids, names = pd.factorize(tokens)
    id_token = np.array(["[PAD]", *names], dtype=object)
    token_id = {token: number for number, token in enumerate(id_token)}
    for (feat, field, kind), part in zip(remap_list, np.split(ids + 1, ends)):
        self.field2id_token.setdefault(field, id_token)
        self.field2token_id.setdefault(field, token_id)
        sequences = kind == dataset.FeatureType.TOKEN_SEQ
        feat[field] = np.split(part, np.cumsum([len(value) for value in feat[field]])[:-1]) if sequences else part


def refusing_empty_ids(stock: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """`Dataset._load_feat` that raises a ValueError for rows without a user or an item, which RecBole leaves out or pads."""

    def load_feat(self: dataset.Dataset, filepath: PathLike, source: FeatureSource | str) -> pd.DataFrame:
        feat = stock(self, filepath, source)
        for field in [] if feat is None else [field for field in (self.uid_field, self.iid_field) if field in feat]:
            empty = np.flatnonzero(feat[field].isna())
            if len(empty):
                line = _line_number(int(empty[0]), filepath, self.config["field_separator"], self.config["encoding"])
                raise ValueError(
                    f"{len(empty):,} rows of {os.fspath(filepath)!r} have an empty {field}, the first in line {line}; "
                    "give each its token, or take these rows out"
                )
        return feat

    return load_feat
