"""Several models, ours and RecBole's, over several seeds on one split: means and spreads in one table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from logging import getLogger
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from recbole.utils import ModelType

from recbole_hetcomp import console
from recbole_hetcomp.commands.pipeline import check, run_on_split, say_data
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, is_distilled, settings_of_any_model
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.split import Split, fit_to_data, make_split, split_seed
from recbole_hetcomp.evaluation.comparison import smaller_is_better
from recbole_hetcomp.evaluation.efficiency import n_parameters, ranking_milliseconds, serving_bytes
from recbole_hetcomp.evaluation.significance import LEVEL, paired_p_values
from recbole_hetcomp.teacher_training.cache import kept
from recbole_hetcomp.teacher_training.configs import training_settings
from recbole_hetcomp.teacher_training.source import source_fingerprint
from recbole_hetcomp.teacher_training.training import teacher_folder
from recbole_hetcomp.teachers.lists import is_list_file

COSTS = ("params", "size_mb", "ms_per_1000_users", "train_seconds", "epochs")
COLUMNS = ("model", "seeds", "p_values", *COSTS)  # all else is a metric
# What measures, beside what trains. The pipeline puts all parts together, so it counts without its imports.
MEASURING = ("recbole_hetcomp.evaluation.efficiency", "recbole_hetcomp.evaluation.significance")
PIPELINE = "recbole_hetcomp.commands.pipeline"


def run_benchmark(
    models: Sequence[str],
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    *,
    seeds: int = 3,
    arguments: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Train and test each model `seeds` times on the same split, with the same teachers.

    The split and the teachers have the seed `split_seed` (by default `seed`); the models have seed, seed + 1, ... A model
    with a file in properties/teacher is trained with the settings there, the others with RecBole's, unless the user says
    otherwise; `model_config`, such as {'BPR': {'embedding_size': 8}}, gives single models settings of their own, which win
    over those that all models are given, wherever either is said.

    Returns:
        a row a model: `model`, `seeds`, each metric's values over the seeds, `params`, `size_mb`, `ms_per_1000_users`,
        `train_seconds` (of the model alone, not of its teachers, validations included), `epochs`, and `p_values`, each top-k
        metric's against the first model (`evaluation/significance.py`). The table is printed, and saved after each model as
        `benchmark.md` and `benchmark.json` in `checkpoint_dir`. What a model gave with a seed is kept in its folder
        `benchmark`, and found there by any later command for which code, data and settings are the same, unless `resume` is
        False: an interrupted benchmark goes on, and a longer one need not begin anew.

    Raises:
        UserError: bad input, for whichever model, before any training.
    """
    _check_models(models)
    configs = {name: _configs(name, dataset, config_file_list, config_dict, seeds, arguments) for name in models}
    first = configs[models[0]][0]
    console.open_log(first)
    _warn_of_unknown_keys([runs[0] for runs in configs.values()])
    for runs in configs.values():
        check(runs[0])
    split = make_split(first)
    say_data(first.dataset, split)
    rows, users = [], []
    for name, runs in configs.items():
        results = []
        for config in runs:
            config["show_progress"] = first["show_progress"]
            fit_to_data(config, split)
            with console.about(f"{name}, seed {config['seed']}"):
                results.append(_measured(config, split))
        rows.append(_row(name, runs, [record for record, _ in results]))
        users.append({metric: np.stack([of_seed[metric] for _, of_seed in results]) for metric in results[0][1]})
        for row, p_values in zip(rows[1:], paired_p_values(users[0], users[1:])):
            row["p_values"] = p_values
        _save(rows, first.dataset, split, Path(first["checkpoint_dir"]))  # so that a crash loses one model, not all
    title = f"benchmark on {first.dataset}, {console.counted(seeds, 'seed')}, test part"
    console.show_table(title, *_table_and_remark(rows))
    console.show_lines([("table", str(Path(first["checkpoint_dir"]) / "benchmark.md")), *console.log_line()])
    return rows


def _check_models(models: Sequence[str]) -> None:
    """Raise a UserError for models that one benchmark cannot compare."""
    if len(set(models)) < len(models):
        raise UserError(f"models: {', '.join(models)} names one twice; name each once, and run variants of one apart")
    for name in models:
        kind = get_model(name, "models").type  # type: ignore[attr-defined]
        if kind not in (ModelType.GENERAL, ModelType.TRADITIONAL):
            raise UserError(
                f"models: {name!r} is a {kind.name.lower()} model; a benchmark compares general recommenders, leave it out"
            )


def _save(rows: Sequence[Mapping[str, Any]], dataset: str, split: Split, folder: Path) -> None:
    """Write what there is so far."""
    (folder / "benchmark.md").write_text(benchmark_table(rows) + "\n", encoding="utf-8")
    content = {"dataset": dataset, "split": split.fingerprint, "rows": rows}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _configs(
    name: str,
    dataset: str,
    files: Sequence[str] | None,
    settings: Mapping[str, Any] | None,
    seeds: int,
    arguments: Sequence[str],
) -> list[Config]:
    """One Config a seed, all with the first one's split; trained as well as we know how, unless the user says otherwise."""
    given = dict(settings or {})
    own = _settings_of_one(given.get("model_config"), name)
    config = Config(name, dataset, files, {**given, **own}, arguments)
    check_settings(config)
    own.update(_settings_of_one(config["model_config"], name))
    _check_own(config, name, own)
    tuned = {key: value for key, value in training_settings(config, name).items() if not config.given(key)}
    first, shared = int(own.get("seed", config["seed"])), {"split_seed": split_seed(config)}
    replaced = tuple(f"--{key}=" for key in {*own, "seed", "split_seed"})  # the command line would win over the dict
    kept = [argument for argument in arguments if not argument.startswith(replaced)]
    return [Config(name, dataset, files, {**given, **tuned, **own, **shared, "seed": first + i}, kept) for i in range(seeds)]


def _settings_of_one(model_config: Any, name: str) -> dict[str, Any]:
    """What `model_config` says of the model `name`.

    Raises:
        UserError: it is no dict of dicts, or not all its keys are models.
    """
    by_model = {} if model_config is None else model_config
    if not isinstance(by_model, Mapping) or not all(isinstance(own, Mapping) for own in by_model.values()):
        raise UserError(f"model_config: {model_config!r} is not of the form {{'BPR': {{'embedding_size': 8}}}}")
    for model in by_model:
        get_model(str(model), "model_config")
    return dict(by_model.get(name, {}))


def _check_own(config: Config, name: str, own: Mapping[str, Any]) -> None:
    """Say of each setting in `model_config` that the model `name` does not know; a misspelt one is a UserError."""
    for key, near in config.unknown_keys(own).items():
        if near and key not in settings_of_any_model():
            raise UserError(f"model_config of {name}: {key}: nothing reads a setting of this name{near}")
        getLogger().warning(f"unknown setting {key!r} in model_config of {name} is not used{near}")


def _warn_of_unknown_keys(configs: Sequence[Config]) -> None:
    """One line for each setting given that none of the models knows.

    Raises:
        UserError: it is a misspelt one, from the command line.
    """
    unknown = [config.unknown_keys() for config in configs]
    for key in sorted(set.intersection(*map(set, unknown)) - {"model_config"}):
        near = next(filter(None, (of_model[key] for of_model in unknown)), "")
        if near and key in configs[0].cmd_config_dict and key not in settings_of_any_model():
            raise UserError(f"{key}: nothing reads a setting of this name{near}")
        getLogger().warning(f"unknown setting {key!r} is not used by any of the models")


def _measured(config: Config, split: Split) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What one model gives with one seed: a record, and each metric of each test user."""
    if config["resume"] is False:
        with tempfile.TemporaryDirectory() as temporary:
            return _measure(config, split, Path(temporary)), _users_in(Path(temporary))
    shaped_by = {
        "measuring": source_fingerprint(MEASURING, alone=[PIPELINE]),
        "teachers": _teachers(config, split) if is_distilled(config.model_class) else [],
        **{key: config[key] for key in ("split_seed", "metrics", "topk")},
    }
    folder = kept(config, split.fingerprint, shaped_by, lambda work: _measure(config, split, work), home="benchmark")
    return json.loads((folder / "record.json").read_text(encoding="utf-8")), _users_in(folder)


def _teachers(config: Config, split: Split) -> list[str]:
    """What tells each teacher of a run from any other: the content of a file, or what a trained one is kept under."""
    names = map(str, config["teachers"])
    return [
        sha256(Path(name).read_bytes()).hexdigest() if is_list_file(name) else teacher_folder(config, split, name).name
        for name in names
    ]


def _measure(config: Config, split: Split, folder: Path) -> dict[str, Any]:
    """The record of a model that is trained and tested now; its metrics for each test user go into `folder`."""
    result = run_on_split(config, split, compare=False)
    np.savez(folder / "users.npz", **result["test_users"])
    model = result["model"]
    return {
        "test_result": {key: float(value) for key, value in result["test_result"].items()},
        "params": n_parameters(model),
        "size_mb": serving_bytes(model) / 2**20,
        "ms_per_1000_users": ranking_milliseconds(model, split.history, max_block_mb=config["max_block_mb"]),
        "train_seconds": result["train_seconds"],
        "epochs": result["epochs"],
    }


def _users_in(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "users.npz", allow_pickle=False) as content:
        return dict(content)


def _row(name: str, configs: Sequence[Config], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": name,
        "seeds": [run["seed"] for run in configs],
        **{key: [record["test_result"][key] for record in records] for key in records[0]["test_result"]},
        **{key: records[-1][key] for key in ("params", "size_mb", "ms_per_1000_users")},
        **{key: [record[key] for record in records] for key in ("train_seconds", "epochs")},
        "p_values": {},
    }


def benchmark_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean ± standard deviation over the seeds, as a GitHub table; the best mean of each metric in bold, and a star where a
    metric differs from the first row's by more than chance."""
    table, remark = _table_and_remark(rows)
    return f"{table.github}\n\n{remark}" if remark else table.github


def _table_and_remark(rows: Sequence[Mapping[str, Any]]) -> tuple[Table, str]:
    """The table, and what its stars say, where it has any."""
    metrics = [key for key in rows[0] if key not in COLUMNS]
    best = {key: (min if smaller_is_better(key) else max)(mean(row[key]) for row in rows) for key in metrics}
    headers = ["model", *metrics, "params", "MB", "ms / 1,000 users", "training s", "s / epoch"]
    cells = [
        [
            row["model"],
            *(_spread(row[key], best[key]) + "*" * (row["p_values"].get(key, 1.0) < LEVEL) for key in metrics),
            f"{row['params']:,}",
            f"{row['size_mb']:.2f}",
            f"{row['ms_per_1000_users']:.1f}",
            f"{mean(row['train_seconds']):.0f}",
            f"{sum(row['train_seconds']) / sum(row['epochs']):.2f}",
        ]
        for row in rows
    ]
    table = Table(headers, cells, dispensable=["MB", "s / epoch", "ms / 1,000 users", "training s", *reversed(metrics[1:])])
    counted = "seeds counted, " if len(rows[0]["train_seconds"]) > 1 else ""
    star = f"\\* differs from {rows[0]['model']} (paired over users, {counted}p < {LEVEL} after Holm)"
    return table, star if "*" in table.github.replace("**", "") else ""


def _spread(values: Sequence[float], best: float) -> str:
    text = f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
    return f"**{text}**" if mean(values) == best else text
