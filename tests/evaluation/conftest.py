"""Teachers that are lists, and an evaluation by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from recbole_hetcomp.data.split import Split


@pytest.fixture
def items_of(split: Split) -> Callable[[int], dict[int, set[int]]]:
    """`items_of(part)`: every user's items in the validation (1) or test (2) part."""

    def make(part: int) -> dict[int, set[int]]:
        rows: dict[int, set[int]] = {user: set() for user in range(split.whole.user_num)}
        features = split.parts[part].inter_feat
        for user, item in zip(features["user_id"].tolist(), features["item_id"].tolist()):
            rows[user].add(item)
        return rows

    return make


@pytest.fixture
def metrics_by_hand(items_of: Callable[[int], dict[int, set[int]]]) -> Callable[[Tensor, list[int]], dict[str, float]]:
    """`metrics_by_hand(lists, cuts)`: test Recall and NDCG of lists [U, L] without training items, by a loop over users."""

    def make(lists: Tensor, cuts: list[int]) -> dict[str, float]:
        valid, test = items_of(1), items_of(2)
        result: dict[str, Any] = {}
        for k in cuts:
            recalls, gains = [], []
            for user, wanted in test.items():
                if wanted:
                    listed = [item for item in lists[user].tolist() if item and item not in valid[user]][:k]
                    hits = [1 / math.log2(place + 2) for place, item in enumerate(listed) if item in wanted]
                    ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
                    recalls.append(len(hits) / len(wanted))
                    gains.append(sum(hits) / ideal)
            result[f"recall@{k}"], result[f"ndcg@{k}"] = sum(recalls) / len(recalls), sum(gains) / len(gains)
        return result

    return make
