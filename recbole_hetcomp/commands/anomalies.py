"""`hetcomp anomalies`: how badly each user and item is restored from ReverseStudent's small code, as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_hetcomp import console
from recbole_hetcomp.commands.pipeline import run_of
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.output import check_output
from recbole_hetcomp.model.distilled_recommender.reversestudent import SIDES, ReverseStudent
from recbole_hetcomp.trainer import parallel


class Anomaly(NamedTuple):
    """A user or an item of the training set.

    Attributes:
        kind: user or item
        token: of the data
        anomaly: sum over the teachers of 1 - cos, from 0 (restored) to 2 a teacher
        interactions: in the training set
        of_teachers: 1 - cos for each teacher
    """

    kind: str
    token: str
    anomaly: float
    interactions: int
    of_teachers: tuple[float, ...]


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
        what the file holds, row by row: users by falling anomaly, then items

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
    """Whoever has training items and whatever is one, by falling anomaly: users, then items."""
    history = model.history
    counts = {"user": history.counts, "item": torch.bincount(history.items, minlength=history.n_items)}
    return [row for side in SIDES for row in _of_side(side, model.anomalies[side], counts[side], model.tokens[side])]


def _of_side(side: str, errors: Tensor, counts: Tensor, tokens: Sequence[Any]) -> list[Anomaly]:
    totals = errors.double().sum(1)
    present = counts.nonzero().squeeze(1)
    order = present[totals[present].argsort(descending=True, stable=True)].tolist()
    return [
        Anomaly(side, str(tokens[one]), float(totals[one]), int(counts[one]), tuple(errors[one].tolist())) for one in order
    ]


def _check(config: Config, path: Path) -> None:
    """Raise a UserError for what gives no anomalies, or has no place to be written to."""
    if not issubclass(config.model_class, ReverseStudent):
        raise UserError(f"model: {config.model} restores no teacher's vectors; leave --model out, or name ReverseStudent")
    for key in ("distillation_weight", "restore_weight"):
        if not config[key]:
            raise UserError(f"{key}: {config[key]!r} trains no decoder, so nothing can be said to be odd; raise it")
    check_output(path, "anomalies.csv")


def _write(path: Path, teachers: Sequence[str], found: Sequence[Anomaly]) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["kind", "token", "anomaly", "interactions", *teachers])
    for one in found:
        errors = (f"{error:.6f}" for error in one.of_teachers)
        rows.writerow([one.kind, one.token, f"{one.anomaly:.6f}", one.interactions, *errors])
    write(path, text.getvalue())
