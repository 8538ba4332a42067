"""A teacher that is a file of vectors: a model of frozen tables and its lists, by the tokens of this data set."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError, named, shown
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teachers.pool import Covered, Teacher
from recbole_hetcomp.teachers.ranking import blocks, full_scores, opinions, ranked_history, top_of_block
from recbole_hetcomp.teachers.recdistillery import SUFFIX, vectors_of
from recbole_hetcomp.teachers.single import moments
from recbole_hetcomp.teachers.trajectory import OBSERVED_DEPTH, Trajectory
from recbole_hetcomp.teachers.vectors import EntityVectors

LITTLE_COVERAGE = 0.3  # below it a warning says so


class VectorRecommender(GeneralRecommender):
    """Vectors as a RecBole model: score(u, i) = <p_u, q_i>.

    Args:
        config, dataset: as RecBole's
        users: [U, D] by internal id
        items: [I, D] likewise
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: Dataset, users: Tensor, items: Tensor) -> None:
        super().__init__(config, dataset)
        # not frozen, so that they count as the parameters that they are; nothing trains a teacher
        self.user_embedding = nn.Embedding.from_pretrained(users, freeze=False)
        self.item_embedding = nn.Embedding.from_pretrained(items, freeze=False)

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the scores of (user, item) pairs."""
        users, items = self.user_embedding(interaction[self.USER_ID]), self.item_embedding(interaction[self.ITEM_ID])
        return (users * items).sum(-1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: the scores of all items for the batch's users, user by user."""
        return torch.mm(self.user_embedding(interaction[self.USER_ID]), self.item_embedding.weight.T).view(-1)


def vector_teacher(name: str, path: Path, split: Split, config: Config) -> Teacher:
    """The teacher that a file of vectors is on this split, with lists of `trajectory_depth` items and one checkpoint.

    A user without a vector has a row of 0 and no list. An item without one is in no list, and has the mean of all vectors
    of items, and so the mean score. Where nobody of a side has one, as where the file has items alone, each user's is the
    mean of the training items', or each item's of the users'.

    Raises:
        UserError: the file cannot be read, has vectors of no user and no item of this dataset, or scores that say nothing.
    """
    vectors = vectors_of(path) if path.suffix == SUFFIX else EntityVectors.load(path)
    history, whole = split.history, split.whole
    users = _by_id(vectors.users, vectors.user_tokens, whole.field2token_id[whole.uid_field], history.n_users)
    items = _by_id(vectors.items, vectors.item_tokens, whole.field2token_id[whole.iid_field], history.n_items)
    _say_coverage(path, Covered(users.any(1), items.any(1)), history, _unknown(vectors, whole))
    user_ids = history.pairs // history.n_items
    if not users.any():
        users = _means(items, history.items, user_ids, history.n_users)
    elif not items.any():
        items = _means(users, user_ids, history.items, history.n_items)
    covered = Covered(users.any(1), items.any(1))
    items[~covered.item] = items[covered.item].mean(0)
    items[0] = 0.0
    load = partial(_model, config, split, users, items)
    model = load()
    lists = _lists(model, covered, history, config)
    if not lists.any():
        raise UserError(f"teachers: {shown(path)} scores all items alike for every user: it teaches nothing; leave it out")
    if not _told_apart(model, lists, history, config):
        raise UserError(
            f"teachers: {shown(path)}: its scores are too small or too large to be told apart; scale its vectors"
        )
    observed = ranked_history(model, history, OBSERVED_DEPTH, max_block_mb=config["max_block_mb"])
    trajectory = Trajectory.from_lists(
        lists,
        observed=observed.masked_fill(~covered.user[:, None], 0),
        teacher=vectors.teacher,
        dataset_fingerprint=split.fingerprint,
        config_fingerprint=vectors.fingerprint,  # another file is another teacher
    )
    return Teacher(name, trajectory, load=load, covered=covered)


def _by_id(rows: Tensor, tokens: Sequence[str], ids: Mapping[str, int], n_ids: int) -> Tensor:
    """[n_ids, D] float32: the rows of `tokens` by internal id; 0 for an id without one, as for the padding."""
    known = [(place, ids[token]) for place, token in enumerate(tokens) if ids.get(token, 0)]
    places, found = torch.tensor(known, dtype=torch.int64).reshape(-1, 2).T
    table = torch.zeros(n_ids, rows.size(1))
    table[found] = rows[places].float()
    return table


def _means(rows: Tensor, neighbours: Tensor, ids: Tensor, n_ids: int) -> Tensor:
    """[n_ids, D]: of each id the mean of its neighbours' rows that are not 0; 0 where there are none.

    Args:
        rows: [n, D]
        neighbours, ids: [N] pairs
    """
    counted = rows.any(1)[neighbours].float()
    totals = torch.zeros(n_ids, rows.size(1)).index_add_(0, ids, rows[neighbours])
    return totals / torch.zeros(n_ids).index_add_(0, ids, counted).clamp(min=1)[:, None]


def _unknown(vectors: EntityVectors, whole: Dataset) -> str:
    """How many tokens of each side the dataset does not have, and the first few; empty where it has all."""
    sides = (("users", vectors.user_tokens, whole.uid_field), ("items", vectors.item_tokens, whole.iid_field))
    unknown = {
        side: [token for token in tokens if not whole.field2token_id[field].get(token, 0)] for side, tokens, field in sides
    }
    return " and ".join(f"{len(tokens):,} {side} ({named(tokens)})" for side, tokens in unknown.items() if tokens)


def _say_coverage(path: Path, covered: Covered, history: History, unknown: str) -> None:
    """Log how much of the training set's users and items has a vector, and what is `unknown`; a UserError where none has."""
    parts = {"users": covered.user[history.active_users], "items": covered.item[history.items.unique()]}
    shares = {side: float(known.float().mean()) for side, known in parts.items()}
    if not any(shares.values()):
        raise UserError(
            f"teachers: {shown(path)} has vectors of no user and no item of this dataset, but of {unknown}; give those of "
            "its tokens"
        )
    said = " and ".join(f"{share:.0%} of the {side}" for side, share in shares.items())
    little = any(0 < share < LITTLE_COVERAGE for share in shares.values())
    (getLogger().warning if little else getLogger().info)(
        f"{path.name}: vectors of {said} of the training set{unknown and f'; the data do not have {unknown}'}"
    )


def _model(config: Config, split: Split, users: Tensor, items: Tensor) -> VectorRecommender:
    return VectorRecommender(config, copy.copy(split.train), users, items).to(config["device"]).eval()


@torch.no_grad()
def _lists(model: VectorRecommender, covered: Covered, history: History, config: Config) -> Tensor:
    """[U, L] int32: the best items that are covered and not in training, of users who are covered; 0 = none."""
    lists = torch.zeros(history.n_users, min(config["trajectory_depth"], history.n_items - 1), dtype=torch.int32)
    unknown = (~covered.item).nonzero().squeeze(1)
    for users in blocks(history.active_users[covered.user[history.active_users]], history.n_items, config["max_block_mb"]):
        scores = full_scores(model, users)
        excluded = torch.cat([history.padded(users), unknown.expand(len(users), -1)], 1).to(scores.device)
        lists[users] = opinions(scores, excluded, top_of_block(scores, excluded, lists.size(1))).int().cpu()
    return lists


@torch.no_grad()
def _told_apart(model: VectorRecommender, lists: Tensor, history: History, config: Config) -> bool:
    """Whether the scores of anybody with a list [U, L] have a deviation that is finite; the first block mostly says so."""
    for users in blocks(lists.any(1).nonzero().squeeze(1), history.n_items, config["max_block_mb"]):
        scores = full_scores(model, users)
        if bool(moments(scores, history.padded(users).to(scores.device))[1].isfinite().any()):
            return True
    return False
