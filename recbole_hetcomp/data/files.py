"""The files of a dataset, looked through once before RecBole reads them: it passes over, or misreads, what is said here.

RecBole's atomic files have a header of `name:type` columns and a row a line. A row that is too long or too short shifts or
loses values in silence, so each row's columns are counted.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.utils import FeatureType

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.atomic_rows import MISSING, of_another_width, of_no_number, of_no_text
from recbole_hetcomp.config.errors import UserError, close_matches, shorter, shown

SEPARATORS = ("\t", ";", ",", "|", " ")
OTHERS = ("user", "item")  # files of features, which need not be there
ENCODINGS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def check_files(config: Config) -> None:
    """Look through the files of the dataset of `config`; a byte order mark of utf-8 is read over from now on.

    Raises:
        UserError: a file is missing, empty, of another encoding or separator, has rows that do not fit its header, or lacks
            the columns of users and items.
    """
    folder, name, suffixes = Path(config["data_path"]), config.dataset, config["benchmark_filename"]
    if suffixes and len(suffixes) != 3:
        raise UserError(
            f"benchmark_filename: {shown(suffixes)} has {len(suffixes)} parts; name three, for training, validation and test"
        )
    files = interaction_files(config)
    for file in files:
        if not file.is_file():
            raise UserError(
                f"dataset {shown(name)}: there is no file {shown(file)}; put RecBole's atomic files there, "
                f"or set --data_path to the folder that holds the dataset's folder{_near(folder, file.name, name)}"
            )
    _check_separators(config)
    load = config["load_col"]
    if load is not None and not isinstance(load, dict):
        raise UserError(f"load_col: {shown(load)} is no dict of lists; write {{'inter': ['user_id', 'item_id']}}")
    features = [folder / f"{name}.{suffix}" for suffix in OTHERS if load is None or suffix in load]
    there = [*files, *filter(Path.is_file, features)]
    _check_encoding(config, there)
    for file in there:
        _check_file(config, file, of_interactions=file in files)


def interaction_files(config: Config) -> list[Path]:
    """The files that the interactions of the dataset of `config` are read from, be they there or not."""
    folder, name = Path(config["data_path"]), config.dataset
    return [folder / f"{name}.{part}.inter" for part in config["benchmark_filename"] or ()] or [folder / f"{name}.inter"]


def check_folder(dataset: str, given: Mapping[str, Any]) -> None:
    """Raise a UserError for a `data_path` among the settings `given` that is no folder.

    For ml-100k, which comes inside RecBole, nothing else would say so.
    """
    folder = given.get("data_path")
    if dataset == "ml-100k" and isinstance(folder, str) and not Path(folder).is_dir():
        raise UserError(
            f"data_path: there is no folder {shown(folder)}; leave data_path out, as ml-100k comes inside RecBole, or name "
            "data of your own with --dataset"
        )


def _near(folder: Path, file: str, name: str) -> str:
    """`; did you mean 'shop'?` of a dataset that lies beside where `name` should be, or comes inside RecBole.

    Where the `file` lies in data_path itself, that is one folder too deep, and the one above is named.
    """
    above = folder.parent
    if (above / file).is_file() and above.name == name:
        return f"; did you mean --data_path={above.parent}?"
    there = [path.name for path in above.glob("*/") if path != folder] if above.is_dir() else []
    return close_matches(name, [*there, "ml-100k"])


def _check_separators(config: Config) -> None:
    for key in ("field_separator", "seq_separator"):
        separator = config[key]
        if not isinstance(separator, str) or not separator or (len(separator) > 1 and re.escape(separator) != separator):
            raise UserError(f"{key}: {shown(separator)} is no plain character between columns; write --{key}=';'")


def _check_encoding(config: Config, files: Sequence[Path]) -> None:
    """Raise a UserError for an encoding that is none; read over a byte order mark of utf-8."""
    encoding = config["encoding"] or "utf-8"
    try:
        if not isinstance(encoding, str) or not isinstance("".encode(encoding), bytes):
            raise LookupError
        known = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise UserError(f"encoding: {shown(encoding)} is no encoding of text; write --encoding=utf-8") from error
    for file in files:
        with file.open("rb") as opened:
            start = opened.read(4)
        if known == "utf-8" and start.startswith(codecs.BOM_UTF8):
            config["encoding"] = "utf-8-sig"
        for mark, other in ENCODINGS:
            if known.startswith("utf-8") and start.startswith(mark):
                raise UserError(f"encoding: {encoding!r} does not read {shown(file)}; write --encoding={other}")


def _check_file(config: Config, file: Path, *, of_interactions: bool) -> None:
    """Raise a UserError for a header that is none, and for the first row that does not fit it."""
    lines = _lines(config, file)
    header = next(lines, (1, ""))[1].rstrip("\n")
    rows = (row for row in lines if row[1].strip())
    first = next(rows, None)
    if first is None and of_interactions:
        raise UserError(f"dataset {shown(config.dataset)}: {shown(file)} holds no interaction; it needs a header and rows")
    if not header.strip():
        raise UserError(f"line 1 of {shown(file)} is blank; take it out, so that the header comes first")
    columns = _columns(config, file, header)
    loaded = _check_columns(config, file, columns) if of_interactions else set()
    numbers = [place for place, (name, kind) in enumerate(columns.items()) if kind == "float" and name in loaded]
    separator, wanted = config["field_separator"], len(columns) - 1
    for line, text in chain([first] if first else [], rows):
        found = text.count(separator)
        if found > wanted or (of_interactions and found < wanted):
            raise UserError(of_another_width(line, file, found + 1, wanted + 1, separator))
        values = text.rstrip("\n").split(separator) if numbers else []
        wrong = next((place for place in numbers if not _is_number(values[place])), None)
        if wrong is not None:
            sentence = of_no_number(line, file, values[wrong], header.split(separator)[wrong])
            raise UserError(f"dataset {shown(config.dataset)} cannot be loaded: {sentence}")


def _lines(config: Config, file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers; raises a UserError for one that is no text in its encoding."""
    encoding, line = config["encoding"] or "utf-8", 0
    try:
        with file.open(encoding=encoding) as opened:
            for line, text in enumerate(opened, 1):
                if "\0" in text:
                    raise UserError(of_no_text(line, file))
                yield line, text
    except UnicodeError as error:
        raise UserError(
            f"encoding: {encoding!r} does not read {shown(file)} after line {line} ({error.args[-1]}); name that of the "
            "file with --encoding, such as latin-1, or save it as utf-8"
        ) from error


def _is_number(text: str) -> bool:
    """Whether pandas reads a number, or a missing one."""
    try:
        float(text if text not in MISSING else "nan")
        return "_" not in text
    except ValueError:
        return False


def _columns(config: Config, file: Path, header: str) -> dict[str, str]:
    """Name -> type of the columns; raises a UserError for a header that is none of an atomic file."""
    name, separator = shown(config.dataset), config["field_separator"]
    parts = header.split(separator)
    other = next((sign for sign in SEPARATORS if len(parts) == 1 and len(header.split(sign)) > 1), None)
    if other is not None and all(re.fullmatch(r"[^:]+(:\w+)?", part) for part in header.split(other)):
        raise UserError(
            f"dataset {name}: {other!r} stands between the columns of {shown(file)}, not {separator!r}; write "
            f"field_separator: {other!r} (--field_separator='{other}')"
        )
    for part in parts:
        column, colon, kind = part.partition(":")
        if not colon:
            raise UserError(
                f"dataset {name}: column {shown(part)} of {shown(file)} has no type; write {shorter(part, 40)}:token for a "
                f"name or {shorter(part, 40)}:float for a number (field_separator: {separator!r} stands between columns)"
            )
        if kind not in [known.value for known in FeatureType]:
            raise UserError(
                f"dataset {name}: column {shown(column)} of {shown(file)} has the type {shown(kind)}; write token, float, "
                "token_seq or float_seq"
            )
    columns = dict(part.split(":") for part in parts)
    twice = [column for column, times in Counter(part.partition(":")[0] for part in parts).items() if times > 1]
    if twice:
        raise UserError(f"dataset {name}: {shown(file)} has two columns {shown(twice[0])}; give one of them another name")
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        kind = columns.get(config[key], "token")
        if kind != "token":
            raise UserError(
                f"dataset {name}: column {config[key]!r} of {shown(file)} has the type {kind}; ids are tokens, so write "
                f"{config[key]}:token"
            )
    return columns


def _check_columns(config: Config, file: Path, columns: dict[str, str]) -> set[str]:
    """The columns that are loaded; raises a UserError where those of users or items are not there, or not asked for."""
    load, there = config["load_col"], shorter(", ".join(columns), 120)
    chosen = "*" if load is None else load.get("inter", [])
    loaded = list(columns) if chosen == "*" else chosen
    if not isinstance(loaded, (list, tuple, set)):
        raise UserError(f"load_col: {shown(load)} is no dict of lists; write {{'inter': ['user_id', 'item_id']}}")
    unknown = [str(column) for column in loaded if column not in columns]
    if unknown:  # as RecBole has it: files of one dataset need not have the same columns
        getLogger().warning(f"load_col: {file.name} has no column {', '.join(unknown)}, it has {there}")
    if config["USER_ID_FIELD"] == config["ITEM_ID_FIELD"]:
        raise UserError(f"ITEM_ID_FIELD: {shown(config['ITEM_ID_FIELD'])} is USER_ID_FIELD as well; name two columns")
    lacking = set() if config["benchmark_filename"] else {config["TIME_FIELD"]} - set(columns)
    _check_columns_of_the_evaluation(config, set(loaded) - lacking)
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        if config[key] not in columns:
            near = close_matches(str(config[key]), columns)
            raise UserError(f"{key}: {shown(file)} has no column {shown(config[key])}, it has {there}{near}")
        if config[key] not in loaded:
            raise UserError(f"load_col: {shown(load)} leaves {config[key]!r} out; add it to 'inter'")
    return set(loaded)


def _check_columns_of_the_evaluation(config: Config, loaded: set[str]) -> None:
    """Raise a UserError where times or labels that `eval_args` asks for are not loaded."""
    time, label, eval_args = config["TIME_FIELD"], config["LABEL_FIELD"], config["eval_args"]
    if eval_args["order"] == "TO" and time not in loaded:
        remedy = "add it to 'inter' in load_col, or write order: RO"
        if config.family == "sequential":
            remedy = f"name the column of times with TIME_FIELD, and add it to load_col, now {shown(config['load_col'])}"
        raise UserError(f"eval_args: order: 'TO' needs the column {shown(time)} (TIME_FIELD), which is not loaded; {remedy}")
    if "labeled" in eval_args["mode"].values() and not {label, *(config["threshold"] or ())} & loaded:
        raise UserError(
            f"eval_args: mode: 'labeled' needs the column {shown(label)} (LABEL_FIELD), or a threshold such as "
            "{'rating': 3} for a column that is loaded; add either"
        )
