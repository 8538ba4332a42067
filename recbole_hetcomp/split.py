"""The data of a run: one RecBole dataset, split once, from which every teacher and student builds its loaders."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import recbole.data.dataset
from recbole.data import create_samplers
from recbole.data.dataset import Dataset, KnowledgeBasedDataset, SequentialDataset
from recbole.data.utils import get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import ModelType, init_seed
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.errors import UserError


class Loaders(NamedTuple):
    """RecBole's three loaders."""

    train: Any
    valid: Any
    test: Any


class History:
    """Each user's training items, as compressed rows.

    Args:
        users, items: [N] the pairs of the training set, RecBole's internal ids
        n_users, n_items: counts, the padding id 0 among them
    """

    def __init__(self, users: Tensor, items: Tensor, n_users: int, n_items: int) -> None:
        self.n_users, self.n_items = n_users, n_items
        pairs = torch.unique(users.long() * n_items + items.long())  # sorted by user, then item; each pair once
        self.items = pairs % n_items  # [N] int64
        self.counts = torch.bincount(pairs // n_items, minlength=n_users)  # [n_users] int64
        self.starts = self.counts.cumsum(0) - self.counts

    def padded(self, users: Tensor) -> Tensor:
        """[B, H] int64: the items of `users` [B], filled up with 0 to the longest history among them."""
        counts, starts = self.counts[users], self.starts[users]
        column = torch.arange(int(counts.max()) if len(users) else 0)
        inside = column < counts[:, None]  # [B, H]
        rows = torch.where(inside, starts[:, None] + column, torch.zeros_like(column))
        return torch.where(inside, self.items[rows], torch.zeros_like(rows))

    @cached_property
    def active_users(self) -> Tensor:
        """[A] int64: the users who have training items; the others get no loss and no list."""
        return self.counts.nonzero().squeeze(1)


@dataclass(frozen=True)
class Split:
    """A dataset and its three parts.

    Attributes:
        whole: the dataset before splitting, with the id maps and the feature tables
        parts: RecBole's training, validation and test datasets
    """

    whole: Dataset
    parts: tuple[Dataset, Dataset, Dataset]

    def loaders(self, config: Config) -> Loaders:
        """RecBole's loaders for the model of `config`, over copies of these parts.

        RecBole's `data_preparation` would split anew, and unpickle whatever it finds in `checkpoint_dir`.
        """
        parts = [copy.copy(part) for part in self.parts]  # loaders sort and extend what they are given
        samplers = create_samplers(config, self.whole, parts)
        train_arguments = [config, parts[0], samplers[0]]
        if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
            negatives = config["train_neg_sample_args"]
            train_arguments.append(KGSampler(self.whole, negatives["distribution"], negatives["alpha"]))
        train = get_dataloader(config, "train")(*train_arguments, shuffle=config["shuffle"])
        valid, test = (
            get_dataloader(config, phase)(config, part, sampler, shuffle=False)
            for phase, part, sampler in zip(("valid", "test"), parts[1:], samplers[1:])
        )
        return Loaders(train, valid, test)

    @property
    def train(self) -> Dataset:
        """What models are built from."""
        return self.parts[0]

    @cached_property
    def history(self) -> History:
        """Every user's training items."""
        users, items = (self.train.inter_feat[field] for field in (self.train.uid_field, self.train.iid_field))
        return History(users, items, self.train.user_num, self.train.item_num)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the id maps and of which pair lies in which part; the order of the rows plays no role."""
        digest = hashlib.sha256()
        for field in (self.whole.uid_field, self.whole.iid_field):
            digest.update("\n".join(map(str, self.whole.field2id_token[field])).encode())
        for part in self.parts:
            users, items = (part.inter_feat[field].numpy() for field in (self.whole.uid_field, self.whole.iid_field))
            digest.update(np.sort(users.astype(np.int64) * self.whole.item_num + items).tobytes())
            digest.update(b"|")
        return digest.hexdigest()


def make_split(config: Config) -> Split:
    """Load the dataset of `config` and split it, with `split_seed` (by default the run's seed).

    Raises:
        UserError: the dataset is missing or empty, or the split leaves nothing to train on.
    """
    _check_dataset_files(config)
    init_seed(split_seed(config), config["reproducibility"])
    try:
        dataset = _dataset_class(config)(config)
        parts = tuple(dataset.build())
    except (ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise UserError(f"dataset {config.dataset!r} cannot be loaded: {error}") from error
    if len(parts) != 3 or not len(parts[0]):
        raise UserError(
            f"dataset {config.dataset!r}: no training interaction is left after filtering and splitting; "
            "loosen user_inter_num_interval, item_inter_num_interval or eval_args"
        )
    for name, part in zip(("validation", "test"), parts[1:]):
        if not len(part):
            raise UserError(f"dataset {config.dataset!r}: the {name} part is empty; change eval_args (now {config['eval_args']})")
    getLogger().info(dataset)
    return Split(dataset, parts)


def split_seed(config: Config) -> int:
    """The seed of the split and of the teachers, so that students of several seeds share both."""
    return int(config["seed"] if config["split_seed"] is None else config["split_seed"])


def fit_evaluation_batches(config: Config, split: Split) -> None:
    """Choose `eval_batch_size` by memory where the user did not: RecBole's default is two users on 2,000 items."""
    if not config.given("eval_batch_size"):
        users = users_per_block(split.whole.item_num, config["max_block_mb"])
        config["eval_batch_size"] = users * split.whole.item_num


def users_per_block(n_items: int, max_block_mb: float) -> int:
    """How many float32 score rows of `n_items` fit into a block of `max_block_mb` MiB; at least 1."""
    return max(1, int(max_block_mb * 2**20 / (4 * n_items)))


def _dataset_class(config: Config) -> type[Dataset]:
    """RecBole's choice of a dataset class, without its habit of unpickling a dataset that lies in `checkpoint_dir`."""
    by_type = {ModelType.SEQUENTIAL: SequentialDataset, ModelType.KNOWLEDGE: KnowledgeBasedDataset}
    return vars(recbole.data.dataset).get(f"{config['model']}Dataset", by_type.get(config["MODEL_TYPE"], Dataset))


def _check_dataset_files(config: Config) -> None:
    folder, name = Path(config["data_path"]), config.dataset
    suffixes = config["benchmark_filename"] or [""]
    files = [folder / f"{name}.{suffix}.inter" if suffix else folder / f"{name}.inter" for suffix in suffixes]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"dataset {name!r}: there is no file {str(file)!r}; put RecBole's atomic files there, "
                "or set --data_path to the folder that holds the dataset's folder"
            )
        with file.open(encoding="utf-8") as lines:
            if not next(lines, "").strip() or not next(lines, "").strip():
                raise UserError(f"dataset {name!r}: {str(file)!r} holds no interaction; it needs a header and rows")
