"""Recommendations as a file, written piece by piece: csv, jsonl or parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.files.atomic import replacing

ROWS = 100_000  # written at once, or a little more
Append = Callable[[pd.DataFrame], None]


def write_frames(path: Path, form: str, frames: Iterator[pd.DataFrame]) -> int:
    """Write the rows of `frames`, of whole users each, as they come; returns how many there were.

    The file gets its name at the end; until then an older one stays.

    Args:
        path: of the file
        form: one of `FORMATS`
        frames: with the columns user, item, rank and score

    Raises:
        OSError: the file cannot be written
    """
    n_rows = 0
    with replacing(path) as temporary, FORMATS[form](temporary) as append:
        for frame in _together(frames):
            append(frame)
            n_rows += len(frame)
    return n_rows


def format_of(path: str, given: str | None) -> str:
    """The format that was asked for, or that the name of the file has.

    Raises:
        UserError: it is none, or its library is missing.
    """
    form = given or Path(path).suffix.lstrip(".").lower()
    if form not in FORMATS:
        setting, value = ("format", given) if given else ("output", path)
        raise UserError(
            f"{setting}: {shown(value)} is none of {', '.join(FORMATS)}; write --format=csv, or --output=FILE.csv"
        )
    if form == "parquet":
        _pyarrow()
    return form


def _together(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Pieces of at least `ROWS` rows, but for the last."""
    waiting: list[pd.DataFrame] = []
    n_rows = 0
    for frame in frames:
        if frame.empty:  # users who have every item
            continue
        waiting.append(frame)
        n_rows += len(frame)
        if n_rows >= ROWS:
            yield pd.concat(waiting, ignore_index=True)
            waiting, n_rows = [], 0
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


@contextmanager
def _csv(path: Path) -> Iterator[Append]:
    """A header, then a row for each recommendation."""
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write("user,item,rank,score\n")
        yield lambda frame: frame.to_csv(file, header=False, index=False, lineterminator="\n")


@contextmanager
def _jsonl(path: Path) -> Iterator[Append]:
    """A line for each user, with the items and the scores in two lists."""
    with path.open("x", encoding="utf-8", newline="") as file:

        def append(frame: pd.DataFrame) -> None:
            ends = np.append(np.flatnonzero(frame["rank"].to_numpy()[1:] == 1) + 1, len(frame)).tolist()
            users, items, begin = frame["user"].tolist(), frame["item"].tolist(), 0
            scores = [float(score) for score in frame["score"].astype(str)]  # as short as float32 allows
            for end in ends:
                line = {"user": users[begin], "items": items[begin:end], "scores": scores[begin:end]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                begin = end

        yield append


@contextmanager
def _parquet(path: Path) -> Iterator[Append]:
    """Columns of strings, int32 and float32; a row group for each piece."""
    arrow, parquet = _pyarrow()
    types = {"user": arrow.string(), "item": arrow.string(), "rank": arrow.int32(), "score": arrow.float32()}
    schema = arrow.schema(list(types.items()))
    with parquet.ParquetWriter(path, schema) as writer:
        yield lambda frame: writer.write_table(arrow.Table.from_pandas(frame, schema, preserve_index=False))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"format: parquet needs pyarrow ({error}); pip install 'recbole_hetcomp[parquet]', or choose csv or jsonl"
        ) from error
    return pyarrow, pyarrow.parquet


FORMATS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
