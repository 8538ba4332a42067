"""Clicks of new rows: a file of rows in the dataset's own tokens, and a saved context-aware model's probability for each."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import FeatureType
from torch import Tensor

from recbole_hetcomp.config.errors import UserError, close_matches, named, shown
from recbole_hetcomp.data.features import FeatureDataset

BLOCK = 4096  # rows that are predicted at once
CHANCE = "probability"
SEPARATORS = {".tsv": "\t", ".inter": "\t"}  # else a comma


class Row(NamedTuple):
    """A line of the file.

    Attributes:
        line: its number
        values: one a column
    """

    line: int
    values: list[str]


class ClickRows:
    """The rows of a file, as a model takes them.

    Args:
        path: a table with a header: the columns of users and items, and those of interactions that the model reads. Columns
            of the users' and items' features may be there; else the dataset's hold
        dataset: with the id maps, the features and the ranges of numbers
        model: a context-aware model

    Attributes:
        unknown: column -> how many values were no token of the dataset; their id is that of the padding

    Raises:
        UserError: no such file, no header, or a column is missing.
    """

    def __init__(self, path: Path, dataset: FeatureDataset, model: AbstractRecommender) -> None:
        self.path, self.dataset, self.unknown = path, dataset, Counter[str]()
        asked = getattr(model, "backbone", model)
        kinds = ("token", "float", "token_seq", "float_seq")
        self.fields = [name for kind in kinds for name in getattr(asked, f"{kind}_field_names")]
        if not path.is_file():
            raise UserError(f"input: there is no file {shown(path)}; correct the path")
        self.header = [name.partition(":")[0].strip() for name in next(self._lines(), Row(1, [])).values]
        self._check_header()

    def _check_header(self) -> None:
        twice = [name for name, count in Counter(self.header).items() if count > 1]
        if twice or CHANCE in self.header:
            raise UserError(
                f"input: {shown(self.path)} has the column {shown((twice or [CHANCE])[0])} more than it may; rename it"
            )
        unscaled = [name for name in self.fields if self._is_unscaled(name)]
        if alone := next((name for name in unscaled if self._table_of(name) is None), None):
            raise UserError(
                f"checkpoint: the model reads the column {shown(alone)} of interactions, which is discretised or a sequence "
                f"of numbers, so it cannot predict new rows; train it without {alone}, or without its discretization"
            )
        needed = [self.dataset.uid_field, self.dataset.iid_field, *self.fields]
        lacking = next((name for name in needed if name not in self.header and self._table_of(name) is None), None)
        if lacking is not None:
            near = close_matches(lacking, self.header)
            raise UserError(
                f"input: {shown(self.path)} has no column {shown(lacking)}, which the model reads{near or '; add it'}"
            )
        if given := next((name for name in unscaled if name in self.header), None):
            raise UserError(
                f"input: column {shown(given)} is discretised or a sequence of numbers; leave it out of the file"
            )

    def _is_unscaled(self, field: str) -> bool:
        """Whether the values of a file cannot be made what the model reads."""
        discretised = self.dataset.config["discretization"] or ()
        return self.dataset.field2type[field] == FeatureType.FLOAT_SEQ or field in discretised

    def _table_of(self, field: str) -> tuple[str, Interaction] | None:
        """(column of ids, table) of the features that hold a column; None of one that rows alone have."""
        for ids, table in (
            (self.dataset.uid_field, self.dataset.user_feat),
            (self.dataset.iid_field, self.dataset.item_feat),
        ):
            if table is not None and field != ids and field in table.columns:
                return ids, table
        return None

    def _lines(self) -> Iterator[Row]:
        """The lines with their numbers, the header first."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                separator = SEPARATORS.get(self.path.suffix, ",")
                if separator == ",":
                    reader = csv.reader(file, strict=True)
                else:  # where quotation marks mean nothing, as in the data files
                    reader = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)
                for values in reader:
                    if values:
                        yield Row(reader.line_num, values)
        except (csv.Error, UnicodeError, OSError) as error:
            raise UserError(
                f"input: {shown(self.path)} cannot be read ({str(error)[:120]}); write it as utf-8 text"
            ) from error

    def blocks(self) -> Iterator[tuple[list[Row], Interaction]]:
        """The rows, some at a time, and what the model takes for them.

        Raises:
            UserError: a row has more or fewer values than the header, or a number is none.
        """
        rows: list[Row] = []
        for row in self._rows():
            rows.append(row)
            if len(rows) == BLOCK:
                yield rows, self._interaction(rows)
                rows = []
        if rows:
            yield rows, self._interaction(rows)

    def _rows(self) -> Iterator[Row]:
        lines = self._lines()
        next(lines, None)
        for row in lines:
            if len(row.values) != len(self.header):
                raise UserError(
                    f"input: line {row.line} of {shown(self.path)} has {len(row.values)} values, and the header has "
                    f"{len(self.header)}; correct it"
                )
            yield row

    def _interaction(self, rows: Sequence[Row]) -> Interaction:
        ids = (self.dataset.uid_field, self.dataset.iid_field)
        found = {field: self._tokens(field, rows) for field in ids}
        for field in self.fields:
            if field in ids:
                continue
            place = self._table_of(field)
            if field in self.header:
                found[field] = self._column(field, rows)
            elif place is not None:
                found[field] = place[1][field][found[place[0]]]
        return Interaction(found)

    def _column(self, field: str, rows: Sequence[Row]) -> Tensor:
        kind = self.dataset.field2type[field]
        if kind == FeatureType.TOKEN:
            return self._tokens(field, rows)
        return self._sequences(field, rows) if kind == FeatureType.TOKEN_SEQ else self._numbers(field, rows)

    def _values(self, field: str, rows: Sequence[Row]) -> list[str]:
        place = self.header.index(field)
        return [row.values[place].strip() for row in rows]

    def _ids(self, field: str, tokens: Sequence[str]) -> list[int]:
        """Their ids; of an unknown one 0, and it is counted."""
        known = self.dataset.field2token_id[field]
        self.unknown[field] += sum(token not in known for token in tokens)
        return [int(known.get(token, 0)) for token in tokens]

    def _tokens(self, field: str, rows: Sequence[Row]) -> Tensor:
        return torch.tensor(self._ids(field, self._values(field, rows)), dtype=torch.int64)

    def _sequences(self, field: str, rows: Sequence[Row]) -> Tensor:
        """[B, L] ids, 0 behind the last one, of as many tokens as RecBole reads of the dataset's rows (`seq_len`)."""
        separator, most = self.dataset.config["seq_separator"], (self.dataset.config["seq_len"] or {}).get(field)
        texts = self._values(field, rows)
        listed = [self._ids(field, [part for part in text.split(separator) if part][:most]) for text in texts]
        found = np.zeros((len(rows), max(1, *map(len, listed))), dtype=np.int64)
        for row, ids in enumerate(listed):
            found[row, : len(ids)] = ids
        return torch.from_numpy(found)

    def _numbers(self, field: str, rows: Sequence[Row]) -> Tensor:
        """[B, 2] float32: each number, scaled as RecBole has scaled the dataset's, and 1."""
        least, most = self.dataset.ranges.get(field, (0.0, 1.0))
        found = torch.ones(len(rows), 2)
        for place, (row, text) in enumerate(zip(rows, self._values(field, rows))):
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise UserError(
                    f"input: line {row.line} of {shown(self.path)} has {shown(text)} for the number {field}; correct it"
                )
            found[place, 0] = (number - least) / (most - least) if most > least else 1.0
        return found

    def remark(self) -> str:
        """A sentence about the unknown values; "" where there are none."""
        counts = [f"{count:,} of {field}" for field, count in self.unknown.items() if count]
        return f"unknown to the model, so taken as missing: {', '.join(counts)}" if counts else ""


@torch.no_grad()
def predict_clicks(model: AbstractRecommender, dataset: FeatureDataset, path: Path) -> tuple[list[list[str]], str]:
    """The rows of a file with a probability of a click for each.

    Args:
        model: a context-aware model that was loaded
        dataset: with its id maps
        path: of the file

    Returns:
        (header and rows of the file, with the column `probability` at the end; a sentence about unknown values, or "")

    Raises:
        UserError: the file cannot be used, or a probability is NaN.
    """
    rows = ClickRows(path, dataset, model)
    found = [[*rows.header, CHANCE]]
    for block, interaction in rows.blocks():
        chances = model.predict(interaction.to(model.device)).reshape(-1).tolist()
        odd = [row.line for row, chance in zip(block, chances) if math.isnan(chance)]
        if odd:
            raise UserError(
                f"checkpoint: the model predicts NaN, first for line {named(odd, 1)} of {shown(path)}; train it anew"
            )
        found += [[*row.values, f"{chance:.6f}"] for row, chance in zip(block, chances)]
    if len(found) == 1:
        raise UserError(f"input: {shown(path)} has no row below its header; add some")
    return found, rows.remark()
