"""`hetcomp anomalies`: how badly each user and item is restored from ReverseStudent's small code, as a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from recbole_hetcomp import console
from recbole_hetcomp.commands.pipeline import run_of
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.output import check_output
from recbole_hetcomp.model.distilled_recommender.reversestudent import SIDES, ReverseStudent
from recbole_hetcomp.model.one_class import over_known
from recbole_hetcomp.trainer import parallel


class Anomaly(NamedTuple):
    """A user or an item of the training set.

    Attributes:
        kind: user or item
        token: of the data
        anomaly: sum over the teachers of 1 - cos, from 0 (restored) to 2 a teacher; where some do not know it, the number of
            teachers times the mean over those that do; None where none does
        interactions: in the training set
        of_teachers: 1 - cos for each teacher; None where it does not know the user or item
    """

    kind: str
    token: str
    anomaly: float | None
    interactions: int
    of_teachers: tuple[float | None, ...]


def find_anomalies(
    output: str = "anomalies.csv",
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    arguments: Sequence[str] | None = None,
) -> list[Anomaly]:
    """Train a ReverseStudent and write a CSV file of users and items, the oddest first.

    Args:
        output: the file; one that is there already is replaced when the new one is whole
        model: ReverseStudent or a class derived from it
        dataset, config_file_list, config_dict, arguments: as of `run_hetcomp`

    Returns:
        what the file holds, row by row: users by falling anomaly, last whom no teacher knows, then items

    Raises:
        UserError: bad input, or a file that cannot be written, before any training.
    """
    config = Config(model or "ReverseStudent", dataset, config_file_list, config_dict, arguments)
    path = Path(output)
    _check(config, path)
    with parallel.logged(config):
        trained = run_of(config, compare=False)["model"]
        found = anomalies(trained)
        replaced = path.exists()
        _write(path, trained.names, found)
        counts = " and ".join(f"{sum(one.kind == side for one in found):,} {side}s" for side in SIDES)
        console.say(f"{counts}, the oddest first, in {path}{', whose old content is replaced' if replaced else ''}")
    return found


def anomalies(model: ReverseStudent) -> list[Anomaly]:
    """Whoever has training items and whatever is one, by falling anomaly, last what no teacher knows: users, then items."""
    history = model.history
    counts = {"user": history.counts, "item": history.popularity}
    return [row for side in SIDES for row in _of_side(side, model.anomalies[side], counts[side], model.tokens[side])]


def _of_side(side: str, errors: Tensor, counts: Tensor, tokens: Sequence[Any]) -> list[Anomaly]:
    totals = over_known(errors.double(), ~errors.isnan())
    present = counts.nonzero().squeeze(1)
    order = present[totals[present].nan_to_num(-1.0).argsort(descending=True, stable=True)].tolist()
    return [
        Anomaly(
            side,
            str(tokens[one]),
            _number(float(totals[one])),
            int(counts[one]),
            tuple(map(_number, errors[one].tolist())),
        )
        for one in order
    ]


def _number(value: float) -> float | None:
    """None for nan."""
    return None if math.isnan(value) else value


def _check(config: Config, path: Path) -> None:
    """Raise a UserError for what gives no anomalies, or has no place to be written to."""
    if not issubclass(config.model_class, ReverseStudent):
        raise UserError(f"model: {config.model} restores no teacher's vectors; leave --model out, or name ReverseStudent")
    for key in ("distillation_weight", "restore_weight"):
        if not config[key]:
            raise UserError(f"{key}: {config[key]!r} trains no decoder, so nothing can be said to be odd; raise it")
    check_output(path, "anomalies.csv", {})


def _write(path: Path, teachers: Sequence[str], found: Sequence[Anomaly]) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["kind", "token", "anomaly", "interactions", *teachers])
    for one in found:
        rows.writerow([one.kind, one.token, _cell(one.anomaly), one.interactions, *map(_cell, one.of_teachers)])
    write(path, text.getvalue())


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
