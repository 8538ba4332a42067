"""The comparison: each row's numbers against an evaluation by hand, and the ratios to the ensemble."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from recbole_hetcomp.evaluation.comparison import (
    add_fidelity,
    final_lists,
    model_row,
    retention,
    save_comparison,
    table,
    teacher_rows,
)
from recbole_hetcomp.evaluation.efficiency import serving_bytes
from recbole_hetcomp.evaluation.list_recommender import of_ensemble
from recbole_hetcomp.evaluation.on_test import metrics_of
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers import TeacherPool
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.ranking import top_unobserved

COSTS = ("params", "size_mb", "ms_per_1000_users")


@pytest.fixture
def config(make_config):
    return make_config("HetCompStudent", teachers=["BPR", "EASE"])


@pytest.fixture
def pool(config, split) -> TeacherPool:
    return build_pool(config, split)


def whole_lists(model, split) -> torch.Tensor:
    return top_unobserved(model, split.history, split.whole.item_num)


@pytest.mark.parametrize("name", ["BPR", "EASE", "NeuMF", "MultiVAE"])
def test_metrics_of_any_model_are_those_of_a_hand_evaluation(config, split, make_model, metrics_by_hand, name) -> None:
    model = make_model(name)
    found = metrics_of(model, config, split.loaders(config))
    assert found == pytest.approx(metrics_by_hand(whole_lists(model, split), [5, 10]), abs=1e-4)


def test_metrics_that_look_at_the_training_set_are_there(make_config, split, make_model) -> None:
    config = make_config("BPR", metrics=["Recall", "ItemCoverage", "AveragePopularity"])
    found = metrics_of(make_model("BPR"), config, split.loaders(config))
    popularity = torch.bincount(split.train.inter_feat["item_id"], minlength=split.whole.item_num)
    assert 0 < found["itemcoverage@10"] <= 1
    assert 0 < found["averagepopularity@10"] <= int(popularity.max())


def test_teacher_rows_hold_every_teacher_and_the_ensemble(config, pool, split, metrics_by_hand) -> None:
    bpr, ease, ensemble = teacher_rows(pool, config, split, split.loaders(config))
    assert [(row["role"], row["model"]) for row in (bpr, ease, ensemble)] == [
        ("teacher", "BPR"),
        ("teacher", "EASE"),
        ("ensemble", "2 teachers"),
    ]
    for row, teacher in zip((bpr, ease), pool.teachers):
        by_hand = metrics_by_hand(whole_lists(teacher.model, split), [5, 10])
        assert {name: row[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-4)
        assert row["size_mb"] * 2**20 == pytest.approx(serving_bytes(teacher.model))
    last = torch.full((2, pool.n_users), pool.n_stages - 1)
    by_hand = metrics_by_hand(Ensemble.from_config(pool, config).topk(200, last), [5, 10])
    assert {name: ensemble[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-4)


def test_ensemble_costs_what_its_teachers_cost_and_its_merging(config, pool, split) -> None:
    bpr, ease, ensemble = teacher_rows(pool, config, split, split.loaders(config))
    assert ensemble["params"] == bpr["params"] + ease["params"] > (62 + 82) * 8 + 82 * 82
    assert ensemble["size_mb"] == pytest.approx(bpr["size_mb"] + ease["size_mb"])
    assert ensemble["ms_per_1000_users"] > bpr["ms_per_1000_users"] + ease["ms_per_1000_users"]


def test_teachers_models_are_let_go_of_after_their_row(config, pool, split) -> None:
    teacher_rows(pool, config, split, split.loaders(config))
    assert all("model" not in vars(teacher) for teacher in pool.teachers)


def test_lists_alone_are_measured_but_cost_nobody_knows_what(config, list_pool, split, metrics_by_hand) -> None:
    pool = list_pool(2)
    *teachers, ensemble = teacher_rows(pool, config, split, split.loaders(config))
    for row, teacher in zip(teachers, pool.teachers):
        alone = torch.full((1, pool.n_users), pool.n_stages - 1)
        by_hand = metrics_by_hand(Ensemble.from_config(TeacherPool([teacher]), config).topk(200, alone), [5, 10])
        assert {name: row[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-4)
    assert all(row[key] is None for row in (*teachers, ensemble) for key in COSTS)
    assert "None" not in table([*teachers, ensemble], "Recall@10").github


@pytest.fixture
def ensemble_row(config, list_pool, split) -> dict:
    return teacher_rows(list_pool(2), config, split, split.loaders(config))[-1]


def test_a_student_that_ranks_as_the_ensemble_has_fidelity_and_retention_1(config, list_pool, split, ensemble_row) -> None:
    pool = list_pool(2)
    twin = of_ensemble(config, copy.copy(split.train), pool)
    row = model_row("student", "twin", twin, config, split, split.loaders(config))
    add_fidelity(row, twin, final_lists(pool, config, split), ensemble_row, config, split)
    assert row["fidelity"] == pytest.approx(1, abs=1e-6)
    assert row["retention"] == {"recall@5": 1, "recall@10": 1, "ndcg@5": 1, "ndcg@10": 1}


def test_another_student_falls_short_in_the_ratio_of_its_metrics(config, list_pool, split, ensemble_row, make_model) -> None:
    model = make_model("BPR")
    row = model_row("student", "BPR", model, config, split, split.loaders(config))
    add_fidelity(row, model, final_lists(list_pool(2), config, split), ensemble_row, config, split)
    assert 0 < row["fidelity"] < 0.99
    for name, ratio in row["retention"].items():
        assert ratio == pytest.approx(row[name] / ensemble_row[name])
    assert set(row["retention"]) == {"recall@5", "recall@10", "ndcg@5", "ndcg@10"}


def test_nothing_is_retained_of_an_ensemble_that_finds_nothing(config, list_pool, split, make_model) -> None:
    row = {"recall@10": 0.1}
    add_fidelity(row, make_model("BPR"), final_lists(list_pool(2), config, split), {"recall@10": 0.0}, config, split)
    assert row["retention"] == {"recall@10": None}


ROWS = [
    {"role": "teacher", "model": "mine", "recall@10": 0.5, "ndcg@10": 0.25, **dict.fromkeys(COSTS)},
    {
        "role": "student",
        "model": "HetCompStudent (MF)",
        "recall@10": 0.45678,
        "ndcg@10": 0.2,
        "params": 1234567,
        "size_mb": 4.70961,
        "ms_per_1000_users": 12.345,
        "fidelity": 0.98765,
        "retention": {"recall@10": 0.91356, "ndcg@10": 0.8},
    },
]


def test_table_shows_every_row_and_number_in_its_column() -> None:
    lines = table(ROWS, "Recall@10").github.splitlines()
    header, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header == [
        *("role", "model", "recall@10", "ndcg@10", "params", "MB", "ms / 1,000 users", "fidelity", "retention recall@10")
    ]
    assert len(rule) == len(header)
    assert rows == [
        ["teacher", "mine", "0.5000", "0.2500", "", "", "", "", ""],
        ["student", "HetCompStudent (MF)", "0.4568", "0.2000", "1,234,567", "4.71", "12.3", "0.988", "0.914"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_table_shows_the_retention_of_the_metric_that_models_are_selected_by() -> None:
    assert table(ROWS, "NDCG@10").github.splitlines()[-1].split("|")[-2].strip() == "0.800"
    assert table(ROWS, "MRR").github.splitlines()[-1].split("|")[-2].strip() == ""


def test_comparison_is_saved_for_people_and_for_programs(tmp_path) -> None:
    text = table(ROWS, "Recall@10").github
    save_comparison(ROWS, text, {"dataset": "toy", "split": "abc", "seed": 3}, tmp_path)
    assert (tmp_path / "comparison.md").read_text() == text + "\n"
    saved = json.loads((tmp_path / "comparison.json").read_text())
    assert saved == {"dataset": "toy", "split": "abc", "seed": 3, "rows": ROWS}


def test_retention_is_the_share_of_the_ensembles_quality() -> None:
    assert retention("recall@10", 0.2, 0.4) == 0.5
    assert retention("averagepopularity@10", 20.0, 10.0) == 0.5  # twice as large a value, where smaller is better
    assert retention("logloss", 0.4, 0.6) == pytest.approx(1.5)
    assert retention("recall@10", 0.2, 0.0) is None
    assert retention("giniindex@10", 0.0, 0.2) is None
