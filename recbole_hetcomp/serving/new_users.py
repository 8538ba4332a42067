"""Users whom the training has not seen: what they have is all that is known of them, and it is enough.

A HistoryEncoder and most sequential models take a history as they take that of any user. A model whose users are rows of a
table has none for a new one; its row is estimated by a linear map (`FoldIn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from logging import getLogger
from typing import Literal, Union, overload

import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from recbole_hetcomp.config.errors import UserError, close_matches, named, shown
from recbole_hetcomp.data.asked import AskedByRow
from recbole_hetcomp.data.history import History, users_per_block
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.backbone import HasHistories
from recbole_hetcomp.serving.factors import factors_of
from recbole_hetcomp.serving.recommending import (
    COLUMNS,
    Ranked,
    Recommendations,
    at_most,
    best_items,
    block_mb,
    by_user,
    frame_of,
    listed,
    refuse_clicks,
    seen_by,
)
from recbole_hetcomp.teachers.ranking import full_scores

READ_USERS = ("Caser", "FPMC", "Fossil", "HGN", "HRM", "NPE", "SHAN", "TransRec")  # sequential models with a table of users
RIDGE = 1e-3  # of the mean square of the items' means
Scores = Callable[[Tensor], Tensor]  # histories [B, n] item ids, oldest first, 0 = no item -> [B, n_items]


@overload
def recommend_for(
    model: AbstractRecommender,
    dataset: Dataset,
    histories: Mapping[str, Sequence[str]],
    k: int = 10,
    *,
    as_frame: Literal[False] = False,
) -> Recommendations: ...


@overload
def recommend_for(
    model: AbstractRecommender,
    dataset: Dataset,
    histories: Mapping[str, Sequence[str]],
    k: int = 10,
    *,
    as_frame: Literal[True],
) -> pd.DataFrame: ...


def recommend_for(
    model: AbstractRecommender,
    dataset: Dataset,
    histories: Mapping[str, Sequence[str]],
    k: int = 10,
    *,
    as_frame: bool = False,
) -> Union[Recommendations, pd.DataFrame]:
    """The k best items for each of some histories, none of which is in the history itself.

    Args:
        model, dataset: as `load_student` gives them
        histories: a name -> item tokens, oldest first; the name need be no user of the dataset
        k: items a history
        as_frame: as in `recommend`

    Returns:
        as `recommend`, with the names in the place of users

    Raises:
        UserError: of some history no item is in the dataset, or the model cannot take histories; a history is a single
            string, or `k` below 1.
    """
    found = ranked_for(model, dataset, histories, k)
    if as_frame:
        frames = [frame_of(block, dataset) for block in found]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    return {name: items for block in found for name, items in by_user(block, dataset)}


def ranked_for(
    model: AbstractRecommender, dataset: Dataset, histories: Mapping[str, Sequence[str]], k: int
) -> Iterator[Ranked]:
    """`recommend_for`, a block of histories after the other; items are looked up at once.

    Raises:
        UserError: as `recommend_for`
    """
    refuse_clicks(model)
    ids = _ids(histories, dataset, repeats=model.type == ModelType.SEQUENTIAL)
    return _ranked(model, dataset, list(histories), ids, scores_of_histories(model, dataset), at_most(k, dataset))


@torch.no_grad()
def _ranked(
    model: AbstractRecommender, dataset: Dataset, names: list[str], ids: list[Tensor], scores_of: Scores, k: int
) -> Iterator[Ranked]:
    size = users_per_block(dataset.item_num, block_mb(dataset))
    for begin in range(0, len(names), size):
        block = torch.nn.utils.rnn.pad_sequence(ids[begin : begin + size], batch_first=True)
        scores = scores_of(block.to(model.device)).float().cpu()
        yield Ranked(names[begin : begin + size], *best_items(model, scores, block, k))


def scores_of_histories(model: AbstractRecommender, dataset: Dataset) -> Scores:
    """How the model scores all items for a block of histories.

    Raises:
        UserError: it cannot.
    """
    backbone = getattr(model, "backbone", model)
    if model.type == ModelType.SEQUENTIAL:
        if type(backbone).__name__ in READ_USERS:
            raise UserError(
                f"history: {type(backbone).__name__} has a table of users and none of them is new; train a student that is "
                "HistoryEncoder, SASRec or GRU4Rec"
            )
        return lambda histories: full_scores(AskedByRow(backbone, _rows(histories, dataset)), _numbers(histories))
    if isinstance(backbone, HasHistories):
        items = backbone.vectors(torch.ones(1, dtype=torch.int64, device=model.device)).items
        return lambda histories: backbone.encode(histories) @ items.T
    vectors = factors_of(model, dataset, "history")
    fold_in = FoldIn(vectors, seen_by(model, dataset))
    return lambda histories: fold_in.users(histories.cpu()) @ vectors.items.T


class FoldIn:
    """A user's vector estimated from a history: a linear map of the mean of its items' vectors, and a constant.

    The map is the one that comes nearest to the vectors of the users who are known (least squares, with a small ridge).

    Args:
        vectors: of all users and items; rows of 0 are padding
        history: of the users who are known
    """

    def __init__(self, vectors: Vectors, history: History) -> None:
        self.items = vectors.items
        users = history.active_users
        means = embedding_bag(history.items, vectors.items, history.starts[users], mode="mean")
        known = _with_constant(means).double()
        ridge = RIDGE * means.square().mean().clamp(min=1e-12) * len(users)
        normal = known.T @ known + ridge * torch.eye(known.size(1), dtype=torch.float64)
        self.map = torch.linalg.solve(normal, known.T @ vectors.users[users].double()).float()  # [d + 1, d]

    def users(self, histories: Tensor) -> Tensor:
        """[B, d]: the vectors of `histories` [B, n] item ids, 0 = no item."""
        return _with_constant(embedding_bag(histories, self.items, mode="mean", padding_idx=0)) @ self.map


def _with_constant(rows: Tensor) -> Tensor:
    """[B, d] -> [B, d + 1]."""
    return pad(rows, (0, 1), value=1.0)


def _rows(histories: Tensor, dataset: Dataset) -> Sequences:
    """Histories [B, n] as sequences of users 1, 2, ..., oldest item first."""
    there = histories > 0
    users = _numbers(histories)[:, None].expand_as(histories)[there]
    config = dataset.config
    fields = dataset.uid_field, dataset.iid_field + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
    n_people, longest = len(histories) + 1, int(config["MAX_ITEM_LIST_LENGTH"])
    return Sequences(
        users.cpu(), histories[there].cpu(), n_people, dataset.item_num, points=1, longest=longest, fields=fields, seed=0
    )


def _numbers(histories: Tensor) -> Tensor:
    """[B]: 1, 2, ..."""
    return torch.arange(1, len(histories) + 1, device=histories.device)


def _ids(histories: Mapping[str, Sequence[str]], dataset: Dataset, *, repeats: bool) -> list[Tensor]:
    """[n] int64 item ids of each history, each once unless `repeats` count, as in a sequence.

    Items that the dataset does not have are left out, with a warning.
    """
    known, unknown, found = dataset.field2token_id[dataset.iid_field], dict[str, None](), []
    for name, tokens in histories.items():
        tokens = listed(tokens, "history")
        ids = [known[str(token)] for token in tokens if known.get(str(token))]
        unknown.update(dict.fromkeys(str(token) for token in tokens if not known.get(str(token))))
        if not ids:
            near = close_matches(str(tokens[0]), known) if tokens else ""
            raise UserError(
                f"history: that of {shown(name)} has no item of dataset {dataset.dataset_name!r}{near or '; give its items'}"
            )
        found.append(torch.tensor(ids if repeats else list(dict.fromkeys(ids)), dtype=torch.int64))
    if unknown:
        getLogger().warning(f"history: dataset {dataset.dataset_name!r} does not have {named(unknown)}; left out")
    return found
