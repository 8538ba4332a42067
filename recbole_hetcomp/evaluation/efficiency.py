"""What a model costs to serve: parameters, bytes, and time for a full ranking."""

from __future__ import annotations

import copy
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn

from recbole_hetcomp.data.history import History
from recbole_hetcomp.losses.lookup import Table
from recbole_hetcomp.teachers.ranking import blocks, full_scores, top_of_block

REPEATS = 5
SAMPLE = 1000  # users that are ranked at most


def as_recbole_counts_it(model: AbstractRecommender) -> AbstractRecommender:
    """A copy of the model whose tables are of the very class that RecBole's `get_flops` knows."""
    counted = copy.deepcopy(model)
    for module in counted.modules():
        if type(module) is Table:
            module.__class__ = nn.Embedding  # type: ignore[assignment]
    return counted


def n_parameters(model: AbstractRecommender) -> int:
    """Numbers that a model scores with: trainable parameters, and the matrices that RecBole keeps beside them (EASE's)."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained + sum(map(_numbers, (model.other_parameter() or {}).values()))


def serving_bytes(model: AbstractRecommender) -> int:
    """Bytes of all that a model needs to score: parameters, buffers, and the matrices that RecBole keeps beside them."""
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return tensors + sum(map(_bytes, (model.other_parameter() or {}).values()))


def _numbers(value: Any) -> int:
    return int(value.nnz if scipy.sparse.issparse(value) else value.size if isinstance(value, np.ndarray) else 0)


def _bytes(value: Any) -> int:
    if scipy.sparse.issparse(value):
        rows = value.tocsr()
        return sum(int(part.nbytes) for part in (rows.data, rows.indices, rows.indptr))
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    return 0  # caches of an evaluation, rebuilt from the parameters


@torch.no_grad()
def ranking_milliseconds(model: AbstractRecommender, history: History, k: int = 50, *, max_block_mb: float = 64.0) -> float:
    """Milliseconds to rank the whole catalogue for 1,000 users and keep the best k."""
    users = history.active_users[:SAMPLE]
    model.eval()

    def rank() -> None:
        for block in blocks(users, history.n_items, max_block_mb):
            top_of_block(full_scores(model, block), history.padded(block).to(model.device), min(k, history.n_items - 1))

    return milliseconds_per_thousand(rank, len(users))


def milliseconds_per_thousand(work: Callable[[], Tensor | None], n_users: int) -> float:
    """Milliseconds of `work`, which serves `n_users`, scaled to 1,000 users.

    The least of five after a warm-up: other work on the machine only adds to it.
    """
    work()
    seconds = []
    for _ in range(REPEATS):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(perf_counter() - started)
    return min(seconds) * 1e6 / n_users
