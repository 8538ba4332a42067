"""What was measured: one JSON file a table in results/data, with the command and the commit that gave it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).parents[2]
DATA = ROOT / "results" / "data"
LEVEL = 0.05  # a p-value below it is shown as a star
COSTS = ("params", "size_mb", "ms_per_1000_users", "multiply_adds", "ms_per_1000")

Row = dict[str, Any]
Record = dict[str, Any]


def read(name: str, data: Path = DATA) -> Record:
    """A record: `command`, `commit`, `date`, `machine` and `rows`.

    Args:
        name: of its file in results/data, such as ml-100k/methods
        data: the folder
    """
    return json.loads((data / f"{name}.json").read_text(encoding="utf-8"))


def write(name: str, record: Mapping[str, Any], data: Path = DATA) -> None:
    """Write a record, a line a row, so that a difference in git shows which rows were measured anew."""
    path = data / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {key: value for key, value in record.items() if key != "rows"}
    lines = [f" {_json(key)}: {_json(value)}," for key, value in head.items()]
    rows = ",\n".join(f"  {_json(row)}" for row in record["rows"])
    path.write_text("\n".join(["{", *lines, ' "rows": [', rows, " ]", "}"]) + "\n", encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def add(file: Path, name: str, command: str, data: Path = DATA) -> Record:
    """Put the rows of a `benchmark.json`, `comparison.json` or `tuning.json` into a record, and say who measured them where.

    A row that is there already (same data, role, model and size) is replaced; the others stay, with their commit.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    new = _rows_of(content)
    record = read(name, data) if (data / f"{name}.json").is_file() else {"rows": []}
    now = {"command": command, "commit": _commit(), "date": date.today().isoformat(), "machine": _machine()}
    old = [{**row, "commit": row.get("commit", record["commit"])} for row in record["rows"]]
    same_commit = [{key: value for key, value in row.items() if (key, value) != ("commit", now["commit"])} for row in old]
    record = {**record, **now, "rows": _merged(same_commit, new)}
    record["rows"] = record.pop("rows")  # last in the file
    write(name, record, data)
    return record


def _rows_of(content: Mapping[str, Any]) -> list[Row]:
    """The rows of whichever file it is."""
    if "searches" in content:
        return [_row_of_search(content, title, found) for title, found in content["searches"].items()]
    return _rows_of_comparison(content) if "settings" in content else [_row_of_benchmark(row) for row in content["rows"]]


def _row_of_search(content: Mapping[str, Any], title: str, found: Mapping[str, Any]) -> Row:
    """A row of `tuning.json`: validation scores without a search and with it, and what the search cost and found."""
    return {
        "data": content["dataset"],
        "model": title,
        "without a search": found["first_score"],
        "found": found["score"],
        "share of the found": round(found["first_score"] / found["score"], 3) if found["first_score"] else None,
        "trials": found["trials"],
        "ended early": found["ended_early"],
        "minutes": round(found["seconds"] / 60),
        "settings found": ", ".join(f"{key} {value}" for key, value in found["settings"].items()),
    }


def _merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The old rows in their order, the new ones in the place of those that they replace, or behind."""
    found = {_key(row): row for row in new}
    kept = [found.pop(_key(row), row) for row in old]
    return kept + list(found.values())


def _key(row: Row) -> tuple[Any, ...]:
    return row.get("data"), row.get("role"), row["model"], row.get("size")


def _row_of_benchmark(row: Mapping[str, Any]) -> Row:
    """A row of `benchmark.json`, where a metric is a list over the seeds."""
    known = {"model", "seeds", "p_values", "trials", "train_seconds", "epochs", *COSTS}
    differs = [metric for metric, p_value in row["p_values"].items() if p_value < LEVEL]
    return {
        "model": row["model"],
        "seeds": len(row["seeds"]),
        **{metric: spread(values) for metric, values in row.items() if metric not in known},
        "params": row["params"],
        **({"multiply_adds": round(row["multiply_adds"])} if "multiply_adds" in row else {}),
        "epochs": round(mean(row["epochs"])),
        **({"differs": differs} if differs else {}),
    }


def _rows_of_comparison(content: Mapping[str, Any]) -> list[Row]:
    """The rows of `comparison.json`; students get the size they were asked for."""
    size = {"size": content["settings"]["embedding_size"]} if "embedding_size" in content["settings"] else {}
    left_out = {"size_mb", "ms_per_1000_users", "ms_per_1000", "retention", "differences"}
    rows = [{key: _rounded(value) for key, value in row.items() if key not in left_out} for row in content["rows"]]
    rows = [{**row, **({"multiply_adds": round(row["multiply_adds"])} if "multiply_adds" in row else {})} for row in rows]
    return [{**row, **size} if row["role"].startswith("student") else row for row in rows]


def spread(values: Sequence[float]) -> float | dict[str, float]:
    """Mean and standard deviation of several seeds, the value itself of one; to the fifth decimal."""
    if len(values) == 1:
        return _rounded(values[0])
    return {"mean": _rounded(mean(values)), "std": _rounded(stdev(values))}


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def value(row: Mapping[str, Any], metric: str) -> float:
    """A row's metric, the mean where there are several seeds."""
    found = row[metric]
    return found["mean"] if isinstance(found, dict) else found


def _commit() -> str:
    git = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return git.stdout.strip()


def _machine() -> str:
    python, torch = platform.python_version(), version("torch").partition("+")[0]
    return f"{os.cpu_count()} cores, Python {python.rpartition('.')[0]}, torch {torch}"
