"""Recommendations of a loaded model, in the dataset's own tokens, a block of users at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Union, overload

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.stored import interactions_of
from recbole_hetcomp.teachers.ranking import best_of_block, blocks, full_scores

Recommendations = dict[str, list[tuple[str, float]]]
COLUMNS = ("user", "item", "rank", "score")
BLOCK_MB = 8.0  # of scores, or less where `max_block_mb` says so: larger blocks do not stay in a processor's cache


class Ranked(NamedTuple):
    """The best items of some users.

    Attributes:
        users: [B] their tokens
        items: [B, k] int64 item ids, best first, 0 = none left
        scores: [B, k] float32
    """

    users: Sequence[str]
    items: Tensor
    scores: Tensor


@overload
def recommend(
    model: AbstractRecommender, dataset: Dataset, users: Sequence[str], k: int = 10, *, as_frame: Literal[False] = False
) -> Recommendations: ...


@overload
def recommend(
    model: AbstractRecommender, dataset: Dataset, users: Sequence[str], k: int = 10, *, as_frame: Literal[True]
) -> pd.DataFrame: ...


def recommend(
    model: AbstractRecommender, dataset: Dataset, users: Sequence[str], k: int = 10, *, as_frame: bool = False
) -> Union[Recommendations, pd.DataFrame]:
    """The k best items that each user has no interaction with in the dataset.

    Args:
        model: a RecBole recommender; a sequential one is asked for what follows a user's whole sequence
        dataset: with the id maps and all known interactions
        users: tokens, plain or numpy's strings
        k: items a user; fewer where the catalogue has no more
        as_frame: whether a table is wanted

    Returns:
        user token -> [(item token, score)], best first; or a table with a row for each of them and the columns `user`,
        `item`, `rank` (from 1) and `score` (float32)

    Raises:
        UserError: a user is not in the dataset, or new in it, or the model scores items NaN; `users` is a single string, or
            `k` below 1.
    """
    users = list(dict.fromkeys(str(user) for user in listed(users, "users")))
    found = ranked(model, dataset, users, k)
    if as_frame:
        frames = [frame_of(block, dataset) for block in found]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    return {user: items for block in found for user, items in by_user(block, dataset)}


def listed(tokens: Sequence[str], setting: str) -> Sequence[str]:
    """The tokens themselves. A string would be read as a list of its letters.

    Raises:
        UserError: it is one; `setting` is how the sentence begins.
    """
    if isinstance(tokens, (str, bytes)):
        raise UserError(f"{setting}: {shown(tokens)} is a single token; write a list, such as [{tokens!r}]")
    return tokens


def at_most(k: int, dataset: Dataset) -> int:
    """How many of the k wanted items the catalogue has.

    Raises:
        UserError: k is below 1.
    """
    if k < 1:
        raise UserError(f"k: {k!r} must be a whole number of at least 1")
    return min(k, dataset.item_num - 1)


def refuse_clicks(model: AbstractRecommender) -> None:
    """Raise a UserError for a context-aware model, which can be asked for rows alone."""
    if model.type == ModelType.CONTEXT:
        raise UserError(
            f"checkpoint: {type(model).__name__} predicts clicks of rows and ranks nothing; use `hetcomp predict`"
        )


def ranked(model: AbstractRecommender, dataset: Dataset, users: Sequence[str], k: int) -> Iterator[Ranked]:
    """`recommend`, a block of users after the other; the users are looked up at once.

    Raises:
        UserError: as `recommend`
    """
    refuse_clicks(model)
    ids = ids_of(users, dataset)
    return _ranked(model, dataset, users, ids, at_most(k, dataset))


@torch.no_grad()
def _ranked(model: AbstractRecommender, dataset: Dataset, users: Sequence[str], ids: Tensor, k: int) -> Iterator[Ranked]:
    history = seen_by(model, dataset)
    asked, begin = asked_by(model, history), 0
    for block in blocks(ids, dataset.item_num, block_mb(dataset)):
        scores = full_scores(asked, block).float().cpu()
        yield Ranked(users[begin : begin + len(block)], *best_items(model, scores, history.padded(block), k))
        begin += len(block)


def block_mb(dataset: Dataset) -> float:
    """MiB of scores that are held at once."""
    return min(float(dataset.config["max_block_mb"] or BLOCK_MB), BLOCK_MB)


def best_items(model: AbstractRecommender, scores: Tensor, excluded: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`best_of_block` of a model's scores.

    Raises:
        UserError: some are NaN.
    """
    try:
        return best_of_block(scores, excluded, k)
    except FloatingPointError as error:
        raise UserError(f"checkpoint: {type(model).__name__} is broken, {error}; train it anew") from error


def seen_by(model: AbstractRecommender, dataset: Dataset) -> History:
    """What each user has in the dataset, as the model is asked for it."""
    by_sequence = model.type == ModelType.SEQUENTIAL
    return Sequences.of_whole(dataset) if by_sequence else History.of(interactions_of(dataset))


def ids_of(users: Sequence[str], dataset: Dataset) -> Tensor:
    """[B] int64: the ids of users.

    Raises:
        UserError: one is not in the dataset, or came into its files after the training.
    """
    known = dataset.field2token_id[dataset.uid_field]
    for user in users:
        if user in known and known[user] != 0:
            continue
        if user in getattr(dataset, "new_users", ()):
            raise UserError(
                f"users: {shown(user)} is new: dataset {dataset.dataset_name!r} has this user, but had not when the model "
                "was trained; give the user's items with --history (docs/new_users.md), or train anew"
            )
        near = close_matches(user, known) or "; for a user who is not in its .inter file give the items with --history"
        raise UserError(f"users: dataset {dataset.dataset_name!r} has no user {user!r}{near}")
    return torch.tensor([known[user] for user in users], dtype=torch.int64)


def all_users(dataset: Dataset) -> list[str]:
    """The tokens of all users who have an interaction, in the order of their ids."""
    there = torch.as_tensor(interactions_of(dataset).inter_feat[dataset.uid_field]).unique()
    return [str(token) for token in dataset.field2id_token[dataset.uid_field][there.numpy()]]


def by_user(block: Ranked, dataset: Dataset) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """For each user of a block the token and [(item token, score)], best first."""
    tokens = dataset.field2id_token[dataset.iid_field]
    for user, items, scores in zip(block.users, block.items.tolist(), block.scores.tolist()):
        yield user, [(str(tokens[item]), score) for item, score in zip(items, scores) if item]


def frame_of(block: Ranked, dataset: Dataset) -> pd.DataFrame:
    """A row for each recommendation of a block, as `recommend` has it."""
    there = (block.items > 0).numpy()  # [B, k]
    columns = {
        "user": np.repeat(np.array(block.users, dtype=object), there.sum(1)),
        "item": dataset.field2id_token[dataset.iid_field][block.items.numpy()[there]],
        "rank": np.broadcast_to(np.arange(1, there.shape[1] + 1), there.shape)[there],
        "score": block.scores.numpy()[there],
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))
