"""Tables of ranked lists as other systems write them: text with or without a header, and parquet.

LensKit's recommendations (`ItemListCollection.to_df`, `save_parquet` in both layouts) and Elliot's (tab-separated user, item
and score, without a header) are read as they are.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.teachers.recdistillery import SUFFIX, lists_of, read_teacher

SEPARATORS = {".tsv": "\t", ".csv": ",", ".inter": "\t"}
PARQUET = ".parquet"
SAFE_PYARROW = (14, 0, 1)  # earlier ones unpickle what a type of the file says
NESTED = "items"  # LensKit's column of lists, whose entries have the other columns


def read_table(path: Path) -> pd.DataFrame:
    """The columns user and item, str; rank, a number; and checkpoint, a number, where the file has it.

    A file without ranks has scores, and larger ones are better; or LensKit's lists, in their order.

    Raises:
        UserError: unreadable, or a column is missing or holds what is no number.
    """
    if path.suffix == SUFFIX:
        return lists_of(read_teacher(path), path)
    table = _parquet(path) if path.suffix == PARQUET else _text(path)
    table.columns = [str(column).split(":")[0].removesuffix("_id") for column in table.columns]
    if {"user", NESTED} <= set(table.columns) and "item" not in table.columns:
        table = _unfolded(table, path)
    lacking = [column for column in ("user", "item") if column not in table.columns]
    lacking += ["rank"] if not {"rank", "score"} & set(table.columns) else []
    if lacking:
        raise UserError(
            f"teachers: {str(path)!r} lacks the columns {lacking}; it needs user, item and rank, or score in place of rank"
        )
    for column in {"rank", "score", "checkpoint"} & set(table.columns):
        table[column] = _numbers(table[column], column, path)
    if "rank" not in table.columns:
        table["rank"] = -table["score"]
    table = table.assign(user=table["user"].astype(str), item=table["item"].astype(str))
    return table[[column for column in ("user", "item", "rank", "checkpoint") if column in table.columns]]


def _text(path: Path) -> pd.DataFrame:
    quoting = csv.QUOTE_MINIMAL if path.suffix == ".csv" else csv.QUOTE_NONE
    settings = {"sep": SEPARATORS[path.suffix], "dtype": str, "keep_default_na": False, "quoting": quoting}
    try:
        table = pd.read_csv(path, **settings)
        if path.suffix == ".tsv" and _is_elliots(table):
            table = pd.read_csv(path, **settings, header=None, names=["user", "item", "score"])
    except (OSError, ValueError) as error:
        raise UserError(f"teachers: {str(path)!r} cannot be read as a table ({error})") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas' way with rows that are longer than the header
        raise UserError(f"teachers: {str(path)!r} has more columns in its rows than in its header; name them all")
    return table


def _is_elliots(table: pd.DataFrame) -> bool:
    """Whether the first line, taken for a header, is a user, an item and a number."""
    first = list(map(str, table.columns))
    return len(first) == 3 and not pd.to_numeric(pd.Series(first[2:]), errors="coerce").isna().any()


def _parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow
    except ImportError as error:
        raise UserError(f"teachers: {str(path)!r} needs pyarrow; pip install 'recbole_hetcomp[parquet]'") from error
    if tuple(map(int, re.findall(r"\d+", pyarrow.__version__)[:3])) < SAFE_PYARROW:
        raise UserError(
            f"teachers: {str(path)!r} is not read by pyarrow {pyarrow.__version__}, which may run code that a file holds "
            "(CVE-2023-47248); pip install 'recbole_hetcomp[parquet]'"
        )
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"teachers: {str(path)!r} cannot be read as parquet ({reason}); write it anew") from error


def _unfolded(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A row an entry of LensKit's nested lists; without rank and score, their order is the rank."""
    rows = table[["user", NESTED]].explode(NESTED, ignore_index=True).dropna()
    if not rows[NESTED].map(lambda entry: isinstance(entry, dict)).all():
        raise UserError(f"teachers: {str(path)!r} has a column {NESTED!r} that holds no lists of items; write it by LensKit")
    entries = pd.DataFrame(rows[NESTED].tolist(), index=rows.index)
    entries.columns = [str(column).removesuffix("_id") for column in entries.columns]
    entries["user"] = rows["user"]
    if not {"rank", "score"} & set(entries.columns):
        entries["rank"] = range(len(entries))
    return entries


def _numbers(column: pd.Series, name: str, path: Path) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        wrong = column[numbers.isna()].iloc[0]
        raise UserError(f"teachers: {str(path)!r} holds a {name} that is no number ({shown(wrong)})")
    return numbers
