"""What a benchmark measures of a trained model: of those that rank, and of those that predict clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.records import Kind, is_count, is_duration
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.evaluation.ctr import clicks_of, costs_of, sampled_rows
from recbole_hetcomp.evaluation.delong import METRICS, Clicks, difference
from recbole_hetcomp.evaluation.efficiency import n_parameters, ranking_milliseconds, serving_bytes
from recbole_hetcomp.evaluation.significance import differences, holm, paired_p_values

Arrays = Mapping[str, np.ndarray]  # [N] numbers by name, such as a metric of each test user
Measured = tuple[dict[str, Any], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Measuring:
    """What is measured.

    Attributes:
        modules: that measure: results are measured anew when their source changes
        file: the name of the file with the arrays
        costs: what a record has beside metrics and times, and what it may be
        measure: (result of a run, its Config, the split) -> costs and arrays
        p_values: arrays of each seed of each model -> of each model but the first: metric -> p against the first one
        differences: arrays of each seed of a model, and of another one or none -> metric -> how far it is from that
            one, or how high it is by itself, with the interval
    """

    modules: tuple[str, ...]
    file: str
    costs: Mapping[str, Kind]
    measure: Callable[[Mapping[str, Any], Config, Split], Measured]
    p_values: Callable[[Sequence[Sequence[Arrays]]], list[dict[str, float]]]
    differences: Callable[[Sequence[Arrays], Sequence[Arrays]], dict[str, Any]]


def _rankings(result: Mapping[str, Any], config: Config, split: Split) -> Measured:
    model = result["model"]
    history = split.asked_at_the_end(model)
    milliseconds = ranking_milliseconds(asked_by(model, history), history, max_block_mb=config["max_block_mb"])
    costs = {"params": n_parameters(model), "size_mb": serving_bytes(model) / 2**20, "ms_per_1000_users": milliseconds}
    return costs, result["test_users"]


def _over_users(measured: Sequence[Sequence[Arrays]]) -> list[dict[str, float]]:
    users = [_stacked(seeds) for seeds in measured]
    return paired_p_values(users[0], users[1:])


def _stacked(seeds: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """metric -> [seeds, n_users]."""
    return {metric: np.stack([of_seed[metric] for of_seed in seeds]) for metric in seeds[0]}


def _between_users(ours: Sequence[Arrays], theirs: Sequence[Arrays]) -> dict[str, Any]:
    values = _stacked(ours)
    nothing = {metric: np.zeros((1, array.shape[1])) for metric, array in values.items()}
    return dict(differences(values, _stacked(theirs) if theirs else nothing))


def _clicks(result: Mapping[str, Any], config: Config, split: Split) -> Measured:
    test = split.loaders(config).test
    clicks = clicks_of(result["model"], test, config["LABEL_FIELD"])
    arrays = {"label": clicks.labels.astype(np.int8), "logit": clicks.logits}
    return costs_of(result["model"], sampled_rows(test)), arrays


def _over_rows(measured: Sequence[Sequence[Arrays]]) -> list[dict[str, float]]:
    first, *others = map(_as_clicks, measured)
    found: list[dict[str, float]] = [{} for _ in others]
    for metric in METRICS:
        p_values = [difference(first, other, metric).p for other in others]
        for row, p in zip(found, holm(p_values)):
            row[metric] = p
    return found


def _as_clicks(seeds: Sequence[Arrays]) -> list[Clicks]:
    return [Clicks(of_seed["label"] > 0, of_seed["logit"]) for of_seed in seeds]


def _between_rows(ours: Sequence[Arrays], theirs: Sequence[Arrays]) -> dict[str, Any]:
    return {metric: difference(_as_clicks(ours), _as_clicks(theirs), metric) for metric in METRICS}


RANKINGS = Measuring(
    ("recbole_hetcomp.evaluation.efficiency", "recbole_hetcomp.evaluation.significance"),
    "users.npz",
    {"params": is_count, "size_mb": is_duration, "ms_per_1000_users": is_duration},
    _rankings,
    _over_users,
    _between_users,
)
CLICKS = Measuring(
    ("recbole_hetcomp.evaluation.ctr", "recbole_hetcomp.evaluation.delong", "recbole_hetcomp.evaluation.operations"),
    "rows.npz",
    {"params": is_count, "multiply_adds": is_duration, "ms_per_1000": is_duration},
    _clicks,
    _over_rows,
    _between_rows,
)


def measuring_of(config: Config) -> Measuring:
    """What is measured of the model of `config`."""
    return CLICKS if config.family == "context" else RANKINGS
