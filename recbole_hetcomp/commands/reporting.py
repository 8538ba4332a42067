"""The records of runs, benchmarks and searches, and the page about them that is made at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hetcomp.commands.provenance import about, command_of
from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.evaluation import benchmark_table, comparison, ctr
from recbole_hetcomp.evaluation.comparison import smaller_is_better
from recbole_hetcomp.evaluation.efficiency import n_parameters, serving_bytes
from recbole_hetcomp.evaluation.popularity import DEPTH, shares
from recbole_hetcomp.evaluation.significance import as_dicts
from recbole_hetcomp.report import write_record, write_report
from recbole_hetcomp.report.records import DamagedRecordError

Differences = Mapping[str, Any]  # a NamedTuple a metric


def report_run(config: Config, split: Split, result: Mapping[str, Any]) -> Path | None:
    """The page about a run, made anew beside its checkpoint; None where there is no checkpoint."""
    if not result["checkpoint"]:
        return None
    n_tested = len(split.parts[2]) if config.family == "context" else _n_users(result, split)
    rows = _rows(config, result)
    metrics = rows[0]["metrics"]
    content = {
        **about(config, split, command_of(config)),
        "model": config.model,
        "seed": int(config["seed"]),
        "checkpoint": str(result["checkpoint"]),
        "tested": tested_on(n_tested, config),
        "smaller": [name for name in metrics if smaller_is_better(name)],
        "rows": rows,
        "curves": result["curves"],
        "against": result.get("against", {}),
        "popularity": _of_the_data(split) if "popularity" in result else None,
        "doubts": list(result["doubts"]),
    }
    return _reported(Path(result["checkpoint"]).parent, "run", content, config)


def _rows(config: Config, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the comparison, or that of a model that has none."""
    if "comparison" not in result:
        model = result["model"]
        metrics = {name: float(value) for name, value in result["test_result"].items()}
        costs = {"params": n_parameters(model), "size_mb": serving_bytes(model) / 2**20, "trials": config.trials}
        return [{"role": "model", "model": config.model, "metrics": metrics, **costs}]
    kept = ("role", "model", *benchmark_table.COSTS, "fidelity", "trials")
    others = (ctr if config.family == "context" else comparison).COLUMNS
    rows = result["comparison"]
    return [
        {
            **{key: row[key] for key in kept if key in row},
            "metrics": {name: value for name, value in row.items() if name not in others},
            "popularity": popularity,
        }
        for row, popularity in zip(rows, result.get("popularity", [None] * len(rows)))
    ]


def _n_users(result: Mapping[str, Any], split: Split) -> int:
    """Of how many users there is a metric; where none is a mean over users, how many the test part has."""
    known = next(iter(result["test_users"].values()), None)
    test = split.parts[2].inter_feat[split.whole.uid_field]
    return len(test.unique()) if known is None else len(known)


def _of_the_data(split: Split) -> dict[str, Any]:
    """How deep the lists were looked at, and what the training interactions themselves come to."""
    counts = split.history.popularity[1:]
    return {"k": DEPTH, "interactions": shares(counts, counts)}


def tested_on(count: int, config: Config) -> dict[str, Any]:
    """How many users, or rows whose clicks are predicted, the test part has."""
    return {"what": "rows" if config.family == "context" else "users", "count": count}


def report_benchmark(
    config: Config,
    split: Split,
    command: str,
    rows: Sequence[Mapping[str, Any]],
    n_tested: int,
    against: Mapping[str, Differences],
    intervals: Mapping[str, Differences],
    curves: Mapping[str, list[Any]],
    settings: Mapping[str, Mapping[str, Any]],
) -> Path | None:
    """The page about a benchmark.

    Args:
        config: of the first model
        command: that made it
        rows: of the benchmark's table
        n_tested: number of users in the test part, or of rows where clicks are predicted
        against: by model and metric, how far it is from the first one
        intervals: by model and metric, how high it is
        curves: by model, one a seed
        settings: by model, all that shape its training
    """
    costs = ("model", "seeds", "trials", *benchmark_table.COSTS, "train_seconds", "epochs")
    metrics = [key for key in rows[0] if key not in benchmark_table.COLUMNS]
    p_values = {row["model"]: row["p_values"] for row in rows}
    compared = {model: as_dicts(found) for model, found in against.items()}
    for model, found in compared.items():  # adjusted for the number of models
        for metric, entry in found.items():
            entry["p"] = p_values[model].get(metric, entry["p"])
    content = {
        **about(config, split, command),
        "tested": tested_on(n_tested, config),
        "smaller": [name for name in metrics if smaller_is_better(name)],
        "rows": [
            {
                **{key: row[key] for key in costs if key in row},
                "metrics": {name: row[name] for name in metrics},
                "against": compared.get(row["model"], {}),
                "intervals": _ends(intervals[row["model"]]),
                "curves": _of_seeds(curves[row["model"]]),
                "settings": _differing(settings[row["model"]], settings[rows[0]["model"]]),
            }
            for row in rows
        ],
    }
    return _reported(Path(config["checkpoint_dir"]), "benchmark", content, config)


def _differing(settings: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the first model does not have so, but those that are a model's own name."""
    return {key: value for key, value in settings.items() if key != "model" and first.get(key, first) != value}


def _of_seeds(curves: Sequence[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """The curves of the first seed, which the page draws; of the others what tells whether a training ended too early."""
    told = ("epoch", "score", "phase", "may_stop")
    short = [
        {
            **found,
            "epochs": [],
            "validations": [{key: part[key] for key in told if key in part} for part in found["validations"]],
        }
        if found is not None
        else None
        for found in curves[1:]
    ]
    return [*curves[:1], *short]


def _ends(differences: Differences) -> dict[str, dict[str, Any]]:
    """The mean and the ends of its interval, by metric."""
    return {metric: {end: entry[end] for end in ("mean", "low", "high")} for metric, entry in as_dicts(differences).items()}


def report_search(config: Config, split: Split, kind: str, command: str, found: Mapping[str, Any]) -> Path | None:
    """The page about a search; `found` is what docs/report.md says of its kind, teacher_search or student_search."""
    content = {**about(config, split, command), **found}
    return _reported(Path(config["checkpoint_dir"]), kind, content, config)


def _reported(folder: Path, kind: str, content: Mapping[str, Any], config: Config) -> Path | None:
    """Write the record and the page. What is damaged of earlier records costs the page, not what was trained."""
    write_record(folder, kind, content, break_lock=config["break_lock"])
    try:
        return write_report(folder, break_lock=config["break_lock"])
    except DamagedRecordError as error:
        getLogger().warning(f"there is no new report.html: {error.sentence}")
        return None


def report_lines(path: Path | None) -> list[tuple[str, str]]:
    """The line of `show_lines` that says where the page is, if there is one."""
    return [] if path is None else [("report", str(path))]
