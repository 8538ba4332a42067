"""Recommendations for a person to read, and lists of tokens that a person writes."""

from __future__ import annotations

import csv
import reprlib
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import pandas as pd
from recbole.data.dataset import Dataset

from recbole_hetcomp.config.errors import UserError, shown

TITLES = ("title", "name")  # an item's title stands in a column whose name contains one of these


def titles(dataset: Dataset) -> dict[str, str]:
    """Item token -> title, from the dataset's .item file; empty where there is no such file or no such column."""
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not path.is_file():
        return {}
    separator, encoding = dataset.config["field_separator"], dataset.config["encoding"]
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            encoding=encoding,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            index_col=False,
            on_bad_lines="skip",
        )
    except (OSError, ValueError) as error:
        getLogger().warning(f"{shown(path)} cannot be read ({str(error)[:80]}): items stand without titles")
        return {}
    table.columns = [column.split(":")[0] for column in table.columns]
    named = [column for column in table.columns if any(word in column.lower() for word in TITLES)]
    if not named or dataset.iid_field not in table.columns:
        return {}
    return dict(zip(table[dataset.iid_field], table[named[0]]))


def tokens_in(text: str, setting: str = "users") -> list[str]:
    """The tokens of a list such as `196,"Doe, Jane"`: one line of CSV, spaces after a comma are none of theirs.

    Args:
        text: the line
        setting: where it comes from

    Raises:
        UserError: a quotation that does not end, or goes on behind its end.
    """
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{setting}: {reprlib.repr(text)} cannot be read ({error}); write a token with a comma or a quotation mark as "
            '"Doe, Jane" or "the ""best"" one"'
        ) from error


def quoted(token: str) -> str:
    """The token as `tokens_in` reads it."""
    plain = token == token.strip() and not {",", '"'} & set(token)
    return token if plain else '"' + token.replace('"', '""') + '"'


def tokens_of_file(path: Path, setting: str) -> list[str]:
    """The lines of a text file, each a token as it is; blank lines are left out.

    Raises:
        UserError: the file is missing, is no UTF-8 text, or has no line.
    """
    lines = [line for line in text_of_file(path, setting).split("\n") if line]
    if not lines:
        raise UserError(f"{setting}: {shown(path)} names nobody; write one token a line")
    return lines


def text_of_file(path: Path, setting: str) -> str:
    """The text of a file in UTF-8, each line ended by a line feed.

    Raises:
        UserError: the file is missing or is no such text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{setting}: {shown(path)} cannot be read ({error.strerror}); name a file of text") from error
    except UnicodeError as error:
        raise UserError(f"{setting}: {shown(path)} is no text in UTF-8; save it as such") from error


def lines_of(user: str, items: list[tuple[str, float]], title_of: dict[str, str]) -> Iterator[str]:
    """Lines to print: the user, then the items, best first, with titles where there are any.

    Tokens stand as `--users` takes them.
    """
    yield f"user {quoted(user)}"
    for place, (item, score) in enumerate(items, 1):
        yield f"{place:4d}. {quoted(item):<10} {score:9.4f}  {title_of.get(item, '')}".rstrip()
