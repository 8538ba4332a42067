"""A teacher that is a file of vectors: of users and items, by raw tokens, from this or another data set or system."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teachers.pool import Covered, Teacher
from recbole_hetcomp.teachers.ranking import blocks, full_scores, opinions, ranked_history, top_of_block
from recbole_hetcomp.teachers.trajectory import MAX_HEADER, OBSERVED_DEPTH, Trajectory, checksum, save_tensors

FORMAT = "recbole_hetcomp.vectors/1"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST = 1e9  # of a number in a vector: squares and products stay finite
LITTLE_COVERAGE = 0.3  # below it a warning says so


@dataclass(frozen=True, eq=False)
class EntityVectors:
    """Vectors whose inner products are scores, each with the raw token of its user or item.

    Attributes:
        users: [n, D] floating point, by `user_tokens`; [0, D] where items alone have vectors
        items: [m, D] floating point, by `item_tokens`
        user_tokens, item_tokens: n and m different strings
        teacher: the name of what made them

    Raises:
        UserError: shapes, types or tokens are off, or a number is not finite or above `LARGEST`.
    """

    users: Tensor
    items: Tensor
    user_tokens: Sequence[str]
    item_tokens: Sequence[str]
    teacher: str = "vectors"

    def __post_init__(self) -> None:
        if self.items.dim() != 2 or self.users.dim() != 2 or self.users.size(1) != self.items.size(1):
            shapes = f"{list(self.users.shape)} and {list(self.items.shape)}"
            raise UserError(f"vectors of users and items are of shape {shapes}; both are [rows, numbers], of one width")
        if not self.items.numel():
            raise UserError("there is no vector of an item; give at least one")
        for side, rows, tokens in (("user", self.users, self.user_tokens), ("item", self.items, self.item_tokens)):
            if rows.dtype not in DTYPES:
                raise UserError(f"vectors of {side}s are {rows.dtype}; give floating point numbers")
            if not bool((rows.abs() <= LARGEST).all()):
                raise UserError(f"a vector of a {side} has a number that is not finite, or above {LARGEST:g}; mend it")
            if len(tokens) != len(rows):
                raise UserError(f"{len(rows):,} vectors of {side}s have {len(tokens):,} tokens; each needs one")
            _check_tokens(side, tokens)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, all at once: float32 vectors, tokens as UTF-8 text of a line each.

        Raises:
            OSError: no permission, or the disk is full; nothing is left behind.
        """
        tensors = {"items": self.items.float().contiguous().cpu(), "item_tokens": _as_text(self.item_tokens)}
        if len(self.users):
            tensors.update(users=self.users.float().contiguous().cpu(), user_tokens=_as_text(self.user_tokens))
        metadata = {"format": FORMAT, "teacher": self.teacher}
        save_tensors(tensors, path, {**metadata, "sha256": checksum(tensors, metadata)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EntityVectors:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, or holds no such vectors.
        """
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in set(file.keys())}
            if metadata.pop("sha256", None) != checksum(tensors, metadata):
                raise ValueError("it is damaged: its content does not have its checksum")
            items = tensors["items"]
            users = tensors.get("users", items[:0])
            user_tokens = _as_tokens(tensors["user_tokens"]) if len(users) else []
            return cls(users, items, user_tokens, _as_tokens(tensors["item_tokens"]), metadata["teacher"])
        except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"teachers: {shown(path)} cannot be read as vectors ({reason}); make it anew") from error


def _check_tokens(side: str, tokens: Sequence[str]) -> None:
    if any(not token or "\n" in token for token in tokens):
        raise UserError(f"a token of a {side} is empty or holds a line break; leave it out")
    if len(set(tokens)) < len(tokens):
        seen: set[str] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise UserError(f"the token {shown(twice)} of a {side} is there twice; name each once")


def _as_text(tokens: Sequence[str]) -> Tensor:
    """[bytes] uint8."""
    return torch.from_numpy(np.frombuffer(bytearray("\n".join(tokens), "utf-8"), dtype=np.uint8))


def _as_tokens(text: Tensor) -> list[str]:
    if text.dtype != torch.uint8 or text.dim() != 1:
        raise ValueError(f"tokens are {text.dtype} of shape {list(text.shape)}, not bytes")
    return bytes(text.numpy()).decode("utf-8").split("\n")


def is_vector_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file says of itself that it holds vectors; False for whatever cannot be read."""
    try:
        with open(path, "rb") as opened:
            if int.from_bytes(opened.read(8), "little") > MAX_HEADER:
                return False
        with safe_open(os.fspath(path), framework="pt") as file:
            return bool((file.metadata() or {}).get("format") == FORMAT)
    except (SafetensorError, OSError):
        return False


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
    of items, and so the mean score. Where the file has items alone, a user's vector is the mean of the training items'.

    Raises:
        UserError: the file cannot be read, or has vectors of no item or no user of this dataset.
    """
    vectors = EntityVectors.load(path)
    history, whole = split.history, split.whole
    items, item_known = _by_id(vectors.items, vectors.item_tokens, whole.field2token_id[whole.iid_field], history.n_items)
    if len(vectors.users):
        ids = whole.field2token_id[whole.uid_field]
        users, user_known = _by_id(vectors.users, vectors.user_tokens, ids, history.n_users)
    else:
        users, user_known = _means_of_items(items, item_known, history)
    covered = Covered(user_known, item_known)
    _say_coverage(path, covered, history)
    items[~item_known] = items[item_known].mean(0)
    items[0] = 0.0
    load = partial(_model, config, split, users, items)
    model = load()
    lists = _lists(model, covered, history, config)
    if not lists.any():
        raise UserError(f"teachers: {shown(path)} scores all items alike for every user: it teaches nothing; leave it out")
    observed = ranked_history(model, history, OBSERVED_DEPTH, max_block_mb=config["max_block_mb"])
    trajectory = Trajectory.from_lists(
        lists,
        observed=observed.masked_fill(~covered.user[:, None], 0),
        teacher=vectors.teacher,
        dataset_fingerprint=split.fingerprint,
        config_fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),  # another file is another teacher
    )
    return Teacher(name, trajectory, load=load, covered=covered)


def _by_id(rows: Tensor, tokens: Sequence[str], ids: Mapping[str, int], n_ids: int) -> tuple[Tensor, Tensor]:
    """([n_ids, D] float32 the rows of `tokens` by internal id, [n_ids] bool whether there is one that is not 0)."""
    known = [(place, ids[token]) for place, token in enumerate(tokens) if ids.get(token, 0)]
    places, found = torch.tensor(known, dtype=torch.int64).reshape(-1, 2).T
    table = torch.zeros(n_ids, rows.size(1))
    table[found] = rows[places].float()
    return table, table.any(1)


def _means_of_items(items: Tensor, known: Tensor, history: History) -> tuple[Tensor, Tensor]:
    """The mean vector of each user's training items that have one, and whether there is any such item."""
    users = torch.repeat_interleave(torch.arange(history.n_users), history.counts)
    counted = known[history.items].float()
    totals = torch.zeros(history.n_users, items.size(1)).index_add_(0, users, items[history.items] * counted[:, None])
    counts = torch.zeros(history.n_users).index_add_(0, users, counted)
    means = totals / counts.clamp(min=1)[:, None]
    return means, means.any(1)


def _say_coverage(path: Path, covered: Covered, history: History) -> None:
    """Log how much of the training set's users and items has a vector; a UserError where none has."""
    parts = {"users": covered.user[history.active_users], "items": covered.item[history.items.unique()]}
    for side, known in parts.items():
        if not known.any():
            raise UserError(f"teachers: {shown(path)} has vectors of no {side} of this dataset; give those of its tokens")
    shares = {side: float(known.float().mean()) for side, known in parts.items()}
    said = " and ".join(f"{share:.0%} of the {side}" for side, share in shares.items())
    little = min(shares.values()) < LITTLE_COVERAGE
    (getLogger().warning if little else getLogger().info)(f"{path.name}: vectors of {said} of the training set")


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
