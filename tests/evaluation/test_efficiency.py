"""Sizes counted by hand, times on a clock of our own."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.evaluation import efficiency
from recbole_hetcomp.evaluation.efficiency import (
    milliseconds_per_thousand,
    n_parameters,
    ranking_milliseconds,
    serving_bytes,
)

N_USERS, N_ITEMS = 62, 82  # padding, 60 and 80 with interactions, one without


@pytest.mark.parametrize(("name", "width"), [("BPR", 8), ("BPR", 3)])
def test_bpr_has_a_vector_for_each_user_and_item(make_model, name, width) -> None:
    model = make_model(name, embedding_size=width)
    assert n_parameters(model) == (N_USERS + N_ITEMS) * width
    assert serving_bytes(model) == 4 * (N_USERS + N_ITEMS) * width


def test_evaluation_does_not_change_what_a_model_weighs(make_model, split) -> None:
    model = make_model("LightGCN")
    before = serving_bytes(model)
    assert n_parameters(model) == (N_USERS + N_ITEMS) * 8
    ranking_milliseconds(model, split.history)
    assert serving_bytes(model) == before


def test_ease_has_a_dense_matrix_of_items_and_the_interactions_by_which_it_scores(make_model, split) -> None:
    model = make_model("EASE")
    pairs = len(split.train)
    interactions = 4 * pairs + 4 * pairs + 4 * (N_USERS + 1)  # values, columns, where each row starts
    assert serving_bytes(model) == 4 * N_ITEMS * N_ITEMS + interactions + 4  # and a parameter that RecBole wants
    assert n_parameters(model) == 1 + N_ITEMS * N_ITEMS + pairs


def test_frozen_parameters_are_no_trainable_ones_but_are_served(make_model) -> None:
    model = make_model("BPR")
    model.item_embedding.weight.requires_grad_(False)
    assert n_parameters(model) == N_USERS * 8
    assert serving_bytes(model) == 4 * (N_USERS + N_ITEMS) * 8


def test_milliseconds_are_the_least_of_five_after_a_warm_up_for_1000_users(monkeypatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0, 30.0, 33.0, 40.0, 44.0])  # 9 s, 1 s, 2 s, 3 s, 4 s
    called = []
    monkeypatch.setattr(efficiency, "perf_counter", lambda: next(clock))
    assert milliseconds_per_thousand(lambda: called.append(1), n_users=500) == pytest.approx(2000)
    assert len(called) == 6


@pytest.mark.parametrize("sample", [7, 1000])
def test_a_ranking_serves_a_sample_of_the_active_users_in_evaluation_mode(make_model, split, monkeypatch, sample) -> None:
    monkeypatch.setattr(efficiency, "SAMPLE", sample)
    model, served = make_model("BPR").train(), []
    predict = model.full_sort_predict
    monkeypatch.setattr(
        model, "full_sort_predict", lambda batch: served.append((model.training, len(batch["user_id"]))) or predict(batch)
    )
    assert ranking_milliseconds(model, split.history, max_block_mb=5 * 4 * N_ITEMS / 2**20) > 0
    assert not any(training for training, _ in served)
    assert max(size for _, size in served) == 5
    assert sum(size for _, size in served) == 6 * min(sample, len(split.history.active_users))


def test_models_that_score_pair_by_pair_are_timed_too(make_model, split) -> None:
    assert ranking_milliseconds(make_model("NeuMF"), split.history, k=10**6) > 0


def test_timing_leaves_no_gradients(make_model, split) -> None:
    model = make_model("BPR")
    ranking_milliseconds(model, split.history)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
