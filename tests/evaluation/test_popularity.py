"""Popularity of lists: known answers, and RecBole's own measures where it has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.evaluator.metrics import GiniIndex

from recbole_hetcomp.evaluation.popularity import popularity_of, shares


def test_lists_of_the_most_popular_items_alone() -> None:
    counts = torch.tensor([0, 50, 40, 3, 2, 1, 1, 1, 1, 1, 1])  # ten items, of which two are the head
    found = popularity_of(torch.tensor([[1, 2], [2, 1], [0, 0]]), counts)
    assert found == pytest.approx({"mean_popularity": 45.0, "gini": 0.8, "coverage": 0.2, "tail": 0.0})


def test_lists_that_hold_every_item_once() -> None:
    counts = torch.tensor([0, 50, 40, 3, 2, 1, 1, 1, 1, 1, 1])
    found = popularity_of(torch.arange(1, 11)[:, None], counts)
    assert found == pytest.approx({"mean_popularity": 10.1, "gini": 0.0, "coverage": 1.0, "tail": 0.8})


def test_lists_of_nothing() -> None:
    assert set(popularity_of(torch.zeros(3, 5, dtype=torch.int32), torch.ones(4, dtype=torch.int64)).values()) == {0.0}


def test_the_gini_index_is_recboles() -> None:
    generator = torch.Generator().manual_seed(3)
    lists = torch.randint(1, 40, (60, 7), generator=generator)
    found = popularity_of(lists, torch.randint(1, 30, (41,), generator=generator))
    metric = GiniIndex.__new__(GiniIndex)
    assert found["gini"] == pytest.approx(metric.get_gini(lists.numpy(), 40))


def test_training_interactions_themselves() -> None:
    counts = torch.tensor([6, 3, 1, 0, 0])
    found = shares(counts, counts)
    assert found["mean_popularity"] == pytest.approx(np.average([6, 3, 1], weights=[6, 3, 1]))
    assert found["coverage"] == pytest.approx(0.6)
    assert found["tail"] == pytest.approx(0.4)
