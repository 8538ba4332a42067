"""Several models, ours and RecBole's, over several seeds on one split: means and spreads in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from statistics import mean, stdev
from time import time
from typing import Any

from recbole.utils import init_logger, set_color
from tabulate import tabulate

from recbole_hetcomp.config import Config
from recbole_hetcomp.evaluation.efficiency import n_parameters, ranking_milliseconds, serving_bytes
from recbole_hetcomp.quick_start import check, run_on_split
from recbole_hetcomp.split import fit_to_data, make_split, split_seed


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

    The split and the teachers have the seed `split_seed` (by default `seed`); the models have seed, seed + 1, ... The
    setting `model_config`, such as {'BPR': {'embedding_size': 8}}, gives single models settings of their own.

    Returns:
        a row a model: `model`, `seeds`, each metric's values over the seeds, `params`, `size_mb`, `ms_per_1000_users`,
        `train_seconds`. The table is printed and saved as `benchmark.md` and `benchmark.json` in `checkpoint_dir`.

    Raises:
        UserError: bad input, for whichever model, before any training.
    """
    configs = {name: _configs(name, dataset, config_file_list, config_dict, seeds, arguments) for name in models}
    first = configs[models[0]][0]
    init_logger(first)
    for name, runs in configs.items():
        getLogger().info(set_color(name, "blue") + f": {len(runs)} seeds")
        runs[0].warn_of_unknown_keys()
        check(runs[0])
    split = make_split(first)
    rows = []
    for name, runs in configs.items():
        results = []
        for config in runs:
            fit_to_data(config, split)
            started = time()
            result = run_on_split(config, split, compare=False)
            results.append({**result["test_result"], "train_seconds": time() - started, "trained": result["model"]})
        rows.append(_row(name, runs, results, split))
    text = benchmark_table(rows)
    getLogger().info(set_color("benchmark", "yellow") + f" on {dataset}, {seeds} seeds, test part:\n" + text)
    folder = Path(first["checkpoint_dir"])
    (folder / "benchmark.md").write_text(text + "\n", encoding="utf-8")
    content = {"dataset": dataset, "split": split.fingerprint, "rows": rows}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return rows


def _configs(
    name: str,
    dataset: str,
    files: Sequence[str] | None,
    settings: Mapping[str, Any] | None,
    seeds: int,
    arguments: Sequence[str],
) -> list[Config]:
    """One Config a seed, all with the first one's split."""
    config = Config(name, dataset, files, settings, arguments)
    own = (config["model_config"] or {}).get(name, {})
    first, shared = int(config["seed"]), {"split_seed": split_seed(config)}
    kept = [argument for argument in arguments if not argument.startswith(("--seed=", "--split_seed="))]
    return [
        Config(name, dataset, files, {**(settings or {}), **own, **shared, "seed": first + i}, kept) for i in range(seeds)
    ]


def _row(name: str, configs: Sequence[Config], results: Sequence[dict[str, Any]], split: Any) -> dict[str, Any]:
    model, config = results[-1]["trained"], configs[-1]
    metrics = [key for key in results[0] if "@" in key]
    return {
        "model": name,
        "seeds": [run["seed"] for run in configs],
        **{key: [float(result[key]) for result in results] for key in metrics},
        "params": n_parameters(model),
        "size_mb": serving_bytes(model) / 2**20,
        "ms_per_1000_users": ranking_milliseconds(model, split.history, max_block_mb=config["max_block_mb"]),
        "train_seconds": [result["train_seconds"] for result in results],
    }


def benchmark_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean ± standard deviation over the seeds, as a GitHub table; the best mean of each metric in bold."""
    metrics = [key for key in rows[0] if "@" in key]
    best = {key: max(mean(row[key]) for row in rows) for key in metrics}
    headers = ["model", *metrics, "params", "MB", "ms / 1,000 users", "training s"]
    cells = [
        [
            row["model"],
            *(_spread(row[key], best[key]) for key in metrics),
            f"{row['params']:,}",
            f"{row['size_mb']:.2f}",
            f"{row['ms_per_1000_users']:.1f}",
            f"{mean(row['train_seconds']):.0f}",
        ]
        for row in rows
    ]
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=alignment)


def _spread(values: Sequence[float], best: float) -> str:
    text = f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
    return f"**{text}**" if mean(values) == best else text
