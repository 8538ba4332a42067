"""A benchmark of context-aware models: a table of its own, tested by drawing test rows anew, never beside rankings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.config.errors import UserError


@pytest.fixture
def benchmark(clicks):
    def run(*models, seeds=2, **settings):
        return run_benchmark(models, "clicks", config_dict={**clicks, "distil_epochs": 2, **settings}, seeds=seeds)

    return run


def test_models_of_clicks_have_a_table_of_their_own(benchmark):
    rows = benchmark("KDDAGFMStudent", "LR", "DeepFM")
    assert [row["model"] for row in rows] == ["KDDAGFMStudent", "LR", "DeepFM"]
    for row in rows:
        assert len(row["auc"]) == len(row["logloss"]) == 2
        assert row["multiply_adds"] > 0
        assert row["ms_per_1000"] > 0
        assert "size_mb" not in row
    assert len(set(rows[2]["auc"])) == 2  # else the seed would reach nothing
    for row in rows[1:]:
        assert set(row["p_values"]) == {"auc", "logloss"}
        assert all(0 <= p <= 1 for p in row["p_values"].values())
    table = Path("saved/benchmark.md").read_text()
    header = [cell.strip() for cell in table.splitlines()[0].split("|")[1:-1]]
    assert header == ["model", "auc", "logloss", "params", "multiply-adds", "ms / 1,000 rows", "training s", "s / epoch"]
    assert json.loads(Path("saved/benchmark.json").read_text())["rows"][0]["model"] == "KDDAGFMStudent"


def test_what_was_measured_is_found_again_for_the_same_rows_alone(benchmark):
    benchmark("LR", seeds=1)
    (kept,) = Path("saved/benchmark").iterdir()
    before = kept.stat().st_mtime_ns
    benchmark("LR", seeds=1)
    assert kept.stat().st_mtime_ns == before
    assert len(list(Path("saved/benchmark").iterdir())) == 1
    benchmark("LR", seeds=1, threshold={"rating": 3})  # the same users and items, and other labels
    assert len(list(Path("saved/benchmark").iterdir())) == 2
    (kept / "rows.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"rows.npz' cannot be read .*; delete the folder"):
        benchmark("LR", seeds=1)


@pytest.mark.parametrize("models", [("FM", "BPR"), ("HetCompStudent", "KDDAGFMStudent"), ("SASRec", "DeepFM")])
def test_rankings_and_clicks_are_never_in_one_table(benchmark, models):
    with pytest.raises(UserError, match=r"^models: \w+ predicts clicks and \w+ ranks items, .*; run two benchmarks$"):
        benchmark(*models)
    assert not Path("saved").exists()
