"""The table of a benchmark: means and spreads over seeds, the best in bold, a star where chance does not explain a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from recbole_hetcomp.console import Table
from recbole_hetcomp.evaluation.comparison import smaller_is_better
from recbole_hetcomp.evaluation.significance import LEVEL

# Of rankings and of clicks: the header of a cost, and its format.
COSTS = {
    "params": ("params", ","),
    "size_mb": ("MB", ".2f"),
    "multiply_adds": ("multiply-adds", ",.0f"),
    "ms_per_1000_users": ("ms / 1,000 users", ".1f"),
    "ms_per_1000": ("ms / 1,000 rows", ".2f"),
}
COLUMNS = ("model", "seeds", "p_values", "trials", "train_seconds", "epochs", *COSTS)  # all else is a metric


def benchmark_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean ± standard deviation over the seeds, as a GitHub table; the best mean of each metric in bold, and a star where a
    metric differs from the first row's by more than chance. `trials` is shown where settings of a training were searched."""
    table, remark = table_and_remark(rows)
    return f"{table.github}\n\n{remark}" if remark else table.github


def table_and_remark(rows: Sequence[Mapping[str, Any]]) -> tuple[Table, str]:
    """The table, and what its stars say, where it has any."""
    metrics, searched = [key for key in rows[0] if key not in COLUMNS], any(row.get("trials") for row in rows)
    best = {key: (min if smaller_is_better(key) else max)(mean(row[key]) for row in rows) for key in metrics}
    costs = {key: cost for key, cost in COSTS.items() if key in rows[0]}
    of_costs = [header for header, _ in costs.values()]
    headers = ["model", *metrics, *of_costs, "training s", "s / epoch", *["trials"] * searched]
    cells = [
        [
            row["model"],
            *(_spread(row[key], best[key]) + "*" * (row["p_values"].get(key, 1.0) < LEVEL) for key in metrics),
            *(format(row[key], form) for key, (_, form) in costs.items()),
            f"{mean(row['train_seconds']):.0f}",
            f"{sum(row['train_seconds']) / sum(row['epochs']):.2f}",
            *[str(row.get("trials", 0))] * searched,
        ]
        for row in rows
    ]
    may_go = [name for name in ("MB", "s / epoch", *of_costs[2:], "training s") if name in {*headers} - {"multiply-adds"}]
    table = Table(headers, cells, dispensable=[*may_go, *reversed(metrics[1:])])
    counted = "seeds counted, " if len(rows[0]["train_seconds"]) > 1 else ""
    paired = "paired over rows" if "multiply_adds" in rows[0] else "paired over users"
    star = f"\\* differs from {rows[0]['model']} ({paired}, {counted}p < {LEVEL} after Holm)"
    return table, star if "*" in table.github.replace("**", "") else ""


def _spread(values: Sequence[float], best: float) -> str:
    text = f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
    return f"**{text}**" if mean(values) == best else text
