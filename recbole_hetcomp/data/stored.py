"""The data inside a student's checkpoint: id maps and interactions, with which it serves where the data files are not.

The section holds tensors alone, as a checkpoint does:

| entry | shape, dtype | meaning |
|---|---|---|
| `user_tokens`, `item_tokens` | [bytes] uint8 | tokens of the ids 1, 2, ... as UTF-8 text, a line each |
| `counts` | [n_users] int32 | interactions of each user id |
| `items` | [N] int32 | the item ids, user by user, each user's in the order of the data |
| `parts` | [N] uint8 | 0 training, 1 validation, 2 test, 3 none of them |
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import shown
from recbole_hetcomp.data.repeats import pairs_of
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.data.views import plain

PADDING = "[PAD]"  # RecBole's token of the id 0
IN_NO_PART = 3
DTYPES = {
    "user_tokens": torch.uint8,
    "item_tokens": torch.uint8,
    "counts": torch.int32,
    "items": torch.int32,
    "parts": torch.uint8,
}


class StoredDataset(Dataset):
    """A RecBole dataset of interactions alone, made from id maps and pairs of ids instead of files.

    Args:
        config: of the model
        tokens: field -> tokens by id, the padding's first, of users and of items
        users, items: [N] int64

    Attributes:
        new_users: tokens of the data that the id map does not have
    """

    def __init__(self, config: Config, tokens: Mapping[str, np.ndarray], users: Tensor, items: Tensor) -> None:
        self.config, self.dataset_name, self.logger = config, config["dataset"], getLogger()
        self._get_preset()
        self._get_field_from_config()
        sources = {self.uid_field: FeatureSource.USER_ID, self.iid_field: FeatureSource.ITEM_ID}
        for field, source in sources.items():
            self.set_field_property(field, FeatureType.TOKEN, source, 1)
            self.field2id_token[field] = tokens[field]
            self.field2token_id[field] = {token: number for number, token in enumerate(tokens[field].tolist())}
        self.inter_feat = Interaction({self.uid_field: users.long(), self.iid_field: items.long()})
        self.user_feat, self.item_feat, self.feat_name_list = None, None, ["inter_feat"]
        self.new_users: frozenset[str] = frozenset()


class StoredSequences(StoredDataset, SequentialDataset):
    """The same for sequential models: each user's interactions stand in the order of time."""

    def __init__(self, config: Config, tokens: Mapping[str, np.ndarray], users: Tensor, items: Tensor) -> None:
        super().__init__(config, tokens, users, items)
        self.max_item_list_len = config["MAX_ITEM_LIST_LENGTH"]
        self.item_list_length_field = config["ITEM_LIST_LENGTH_FIELD"]


def stored_data(split: Split) -> dict[str, Tensor]:
    """The section of a checkpoint for what was trained on `split`."""
    whole = interactions_of(split.whole)
    users = whole.inter_feat[whole.uid_field]
    order = torch.sort(users, stable=True).indices
    pairs = pairs_of(whole)[order.numpy()]
    parts = np.full(len(pairs), IN_NO_PART, dtype=np.uint8)
    of_parts = [pairs_of(part) for part in split.parts]
    places = places_of(np.concatenate(of_parts), pairs)
    labels = np.repeat(np.arange(len(of_parts), dtype=np.uint8), [len(part) for part in of_parts])
    parts[places[places >= 0]] = labels[places >= 0]
    return {
        "user_tokens": _as_text(whole.field2id_token[whole.uid_field][1:]),
        "item_tokens": _as_text(whole.field2id_token[whole.iid_field][1:]),
        "counts": torch.bincount(users, minlength=whole.user_num).int(),
        "items": whole.inter_feat[whole.iid_field][order].int(),
        "parts": torch.from_numpy(parts),
    }


def stored_split(section: object, config: Config) -> Split:
    """The split that `stored_data` was made of.

    Raises:
        ValueError: the section is none; the message is a clause.
    """
    parts = _checked(section)
    tokens = {
        config[f"{side.upper()}_ID_FIELD"]: np.array([PADDING, *_tokens(parts[f"{side}_tokens"])], dtype=object)
        for side in ("user", "item")
    }
    n_users, n_items = (len(of_side) for of_side in tokens.values())
    counts, items, labels = parts["counts"].long(), parts["items"].long(), parts["parts"]
    if len(counts) != n_users or len(items) != int(counts.sum()) or len(items) != len(labels) or int(counts[0]):
        raise ValueError("its users, interactions and parts do not fit each other")
    if len(items) and not 0 < int(items.min()) <= int(items.max()) < n_items:
        raise ValueError("it has an interaction with an item that is not there")
    users = torch.arange(n_users).repeat_interleave(counts)
    kind = StoredSequences if config.family == "sequential" else StoredDataset
    of_parts = [kind(config, tokens, users[labels == part], items[labels == part]) for part in range(IN_NO_PART)]
    train, valid, test = of_parts
    if not len(train):
        raise ValueError("it has no training interaction")
    views = (plain(train), plain(valid), plain(test)) if isinstance(train, SequentialDataset) else (train, valid, test)
    instances = (train, valid, test) if isinstance(train, SequentialDataset) else None
    return Split(kind(config, tokens, users, items), views, instances)


def with_growth(stored: StoredDataset, current: Dataset) -> StoredDataset:
    """`stored` with what `current` has beside: new interactions of its users with its items, behind the others.

    Raises:
        ValueError: `current` lacks interactions of `stored`; the message is a clause.
    """
    ids, known = [], np.ones(len(current.inter_feat), dtype=bool)
    for field in (stored.uid_field, stored.iid_field):
        mapped = pd.Series(current.field2id_token[field]).map(stored.field2token_id[field]).fillna(0).to_numpy(np.int64)
        ids.append(mapped[current.inter_feat[field].numpy()])
        known &= ids[-1] > 0
    users, items = (torch.from_numpy(column[known]) for column in ids)
    now = users.numpy() * stored.item_num + items.numpy()
    places = places_of(pairs_of(stored), now)
    if (places < 0).any():
        row = int((places < 0).argmax())
        user, item = (
            shown(str(stored.field2id_token[field][stored.inter_feat[field][row]]))
            for field in (stored.uid_field, stored.iid_field)
        )
        raise ValueError(f"lacks {int((places < 0).sum()):,} interactions, such as that of user {user} with item {item}")
    new = np.ones(len(now), dtype=bool)
    new[places] = False
    joined = [
        torch.cat([stored.inter_feat[field], column[torch.from_numpy(new)]])
        for field, column in ((stored.uid_field, users), (stored.iid_field, items))
    ]
    order = torch.sort(joined[0], stable=True).indices
    grown = type(stored)(stored.config, stored.field2id_token, joined[0][order], joined[1][order])
    there = current.field2id_token[current.uid_field][1:].tolist()
    grown.new_users = frozenset(there) - set(stored.field2token_id[stored.uid_field])
    return grown


def interactions_of(dataset: Dataset) -> Dataset:
    """The dataset with its interactions one by one, those of a run with sequential models among them."""
    return plain(dataset) if isinstance(dataset, SequentialDataset) else dataset


def places_of(pairs: np.ndarray, among: np.ndarray) -> np.ndarray:
    """[n] int64: where each of `pairs` [n] stands in `among` [m], a second copy at the second place; -1: nowhere."""
    if not len(pairs) or not len(among):
        return np.full(len(pairs), -1)
    copies = [pd.Series(column).groupby(column).cumcount().to_numpy() for column in (pairs, among)]  # earlier ones of a pair
    most = 1 + max(int(of_column.max()) for of_column in copies)
    wanted, there = (column * most + of_column for column, of_column in zip((pairs, among), copies))
    order = np.argsort(there)
    found = order[np.searchsorted(there, wanted, sorter=order).clip(max=len(there) - 1)]
    return np.where(there[found] == wanted, found, -1)


def _checked(section: object) -> dict[str, Tensor]:
    if not isinstance(section, dict) or set(section) != set(DTYPES):
        raise ValueError(f"it is not made of {', '.join(DTYPES)}")
    for name, dtype in DTYPES.items():
        value = section[name]
        if not isinstance(value, Tensor) or value.dtype != dtype or value.dim() != 1:
            raise ValueError(f"its {name} are no {dtype} numbers in a row")
    if len(section["counts"]) and int(section["counts"].min()) < 0:
        raise ValueError("a user has a negative number of interactions")
    if len(section["parts"]) and int(section["parts"].max()) > IN_NO_PART:
        raise ValueError("an interaction is in a part that is none")
    return section


def _as_text(tokens: np.ndarray) -> Tensor:
    """[bytes] uint8."""
    return torch.from_numpy(np.frombuffer(bytearray("\n".join(map(str, tokens)), "utf-8"), dtype=np.uint8).copy())


def _tokens(text: Tensor) -> list[str]:
    tokens = bytes(text.numpy()).decode("utf-8").split("\n")
    if len({*tokens}) != len(tokens):
        raise ValueError("a token stands twice in it")
    return tokens
