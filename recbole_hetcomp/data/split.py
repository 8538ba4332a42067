"""The data of a run: one RecBole dataset, split once, from which every teacher and student builds its loaders."""

from __future__ import annotations

import copy
import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from logging import getLogger
from typing import NamedTuple

import numpy as np
from recbole.data import create_samplers
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.utils import get_dataloader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.sampler import KGSampler
from recbole.utils import ModelType, init_seed

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.family import MIXED, are_sequential
from recbole_hetcomp.data.features import further_fields, rows_fingerprint, scales
from recbole_hetcomp.data.files import check_files
from recbole_hetcomp.data.fitting import set_ratios
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.instances import RankedInstances
from recbole_hetcomp.data.repeats import check_kept, pairs_of
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.views import both_views, dataset_class

# What RecBole ends in where files or settings of the data are not as it takes them to be
NOT_LOADED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, NotImplementedError, csv.Error)


class Loaders(NamedTuple):
    """RecBole's three loaders."""

    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader


@dataclass(frozen=True)
class Split:
    """A dataset and its three parts.

    Attributes:
        whole: the dataset before splitting, with the id maps and the feature tables
        parts: RecBole's training, validation and test datasets, as general models see them
        instances: of sequential data the same three parts as sequential models see them; else None
    """

    whole: Dataset
    parts: tuple[Dataset, Dataset, Dataset]
    instances: tuple[SequentialDataset, SequentialDataset, SequentialDataset] | None = None

    def loaders(self, config: Config) -> Loaders:
        """RecBole's loaders for the model of `config`, over copies of these parts.

        RecBole's `data_preparation` would split anew, and unpickle whatever it finds in `checkpoint_dir`. Ratios among the
        settings become numbers here at the latest.
        """
        set_ratios(config, self)
        parts = [copy.copy(part) for part in self.parts_for(config)]  # loaders sort and extend what they are given
        samplers = create_samplers(config, self.whole, parts)
        train_arguments = [config, parts[0], samplers[0]]
        if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
            negatives = config["train_neg_sample_args"]
            train_arguments.append(KGSampler(self.whole, negatives["distribution"], negatives["alpha"]))
        train = get_dataloader(config, "train")(*train_arguments, shuffle=config["shuffle"])
        valid, test = (
            self._evaluation_loader(config, phase)(config, part, sampler, shuffle=False)
            for phase, part, sampler in zip(("valid", "test"), parts[1:], samplers[1:])
        )
        return Loaders(train, valid, test)

    def loaders_like(self, model: AbstractRecommender, config: Config, loaders: Loaders) -> Loaders:
        """`loaders`, those of `config`; others of the same run where one of the two models alone is asked by sequences."""
        by_sequence = model.type == ModelType.SEQUENTIAL
        if by_sequence == is_sequential(config):
            return loaders
        other = copy.copy(config)
        kind = {"MODEL_TYPE": model.type, "repeatable": by_sequence, "transform": None}
        other.final_config_dict = {**config.final_config_dict, **kind}
        return self.loaders(other)

    def asked_at_the_end(self, model: AbstractRecommender) -> History:
        """Whom `model` is asked for: users, or, where it is asked by sequences, users at the end of theirs."""
        return self.rows(1, 0) if model.type == ModelType.SEQUENTIAL else self.history

    def _evaluation_loader(self, config: Config, phase: str) -> Callable[..., AbstractDataLoader]:
        """RecBole's loader class; where instances of sequences are ranked over all items, one of ours."""
        if not is_sequential(config) or config["eval_args"]["mode"][phase] != "full":
            return get_dataloader(config, phase)
        seen = [self.history] if phase == "valid" else [self.history, History.of(self.parts[1])]
        return partial(RankedInstances, seen=seen if config["mask_seen"] else [])

    @property
    def train(self) -> Dataset:
        """The training part as general models see it."""
        return self.parts[0]

    def parts_for(self, config: Config) -> tuple[Dataset, Dataset, Dataset]:
        """The three parts as the model of `config` sees them."""
        return self.instances if self.instances is not None and is_sequential(config) else self.parts

    def train_for(self, config: Config) -> Dataset:
        """What the model of `config` is built from."""
        return self.parts_for(config)[0]

    def rows_for(self, config: Config) -> Sequences | None:
        """What the lists of a run of `config` are keyed by where data are sequential; None: users.

        A student that is asked for users learns from what teachers say at the end of their sequences.
        """
        if self.instances is None:
            return None
        return self.rows(config["points_per_user"] if is_sequential(config) else 1, split_seed(config))

    def rows_key(self, config: Config) -> dict[str, str]:
        """What `rows_for` adds to that by which results of a run of `config` are kept; nothing where lists are of users."""
        rows = self.rows_for(config)
        return {} if rows is None else {"rows": rows.fingerprint}

    def rows(self, points: int, seed: int) -> Sequences:
        """Each user at the end of the training sequence, and at `points` - 1 earlier points."""
        seed = seed if points > 1 else 0  # nothing is drawn
        if (points, seed) not in self._rows:
            self._rows[points, seed] = Sequences.of_plain(self.train, points, seed)
        return self._rows[points, seed]

    @cached_property
    def _rows(self) -> dict[tuple[int, int], Sequences]:
        return {}

    @cached_property
    def history(self) -> History:
        """Every user's training items."""
        return History.of(self.train)

    @cached_property
    def id_fingerprint(self) -> str:
        """sha256 of the maps from tokens to ids, and of the numbers' scales: a model serves whatever data have the same."""
        fields = (self.whole.uid_field, self.whole.iid_field, *further_fields(self.whole))
        parts = ["\n".join(map(str, self.whole.field2id_token[field])) for field in fields]
        parts += filter(None, [scales(self.whole)])
        return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the id maps and of which pair lies in which part; the order of the rows plays no role."""
        digest = hashlib.sha256(self.id_fingerprint.encode())
        for part in self.parts:
            users, items = (part.inter_feat[field].numpy() for field in (self.whole.uid_field, self.whole.iid_field))
            digest.update(np.sort(users.astype(np.int64) * self.whole.item_num + items).tobytes())
            digest.update(b"|")
        return digest.hexdigest()

    def fingerprint_for(self, config: Config) -> str:
        """`fingerprint`; for a model that is asked by sequences with the order of each user's items, for one that
        is asked by rows with all their columns, too.
        """
        if config.family == "context":
            return self._fingerprint_of_rows
        by_sequence = self.instances is not None and is_sequential(config)
        return self._fingerprint_in_order if by_sequence else self.fingerprint

    @cached_property
    def _fingerprint_of_rows(self) -> str:
        return rows_fingerprint(self.whole, self.parts)

    @cached_property
    def _fingerprint_in_order(self) -> str:
        # by user; what is validated on comes before what is tested in the sequences
        items = np.concatenate([part.inter_feat[self.whole.iid_field].numpy() for part in self.parts])
        return hashlib.sha256(self.fingerprint.encode() + items.astype(np.int64).tobytes()).hexdigest()


def make_split(config: Config) -> Split:
    """Load the dataset of `config` and split it, with `split_seed` (by default the run's seed).

    Raises:
        UserError: the dataset is missing or empty, or the split leaves nothing to train on.
    """
    check_kept(config)
    for key in ("seed", "split_seed"):  # `hetcomp recommend` has checked none
        config.declarations()[key].check(config[key])
    check_files(config)
    init_seed(split_seed(config), config["reproducibility"])
    try:
        dataset = dataset_class(config)(config)
        parts = tuple(dataset.build())
    except NOT_LOADED as error:
        raise UserError(f"dataset {config.dataset!r} cannot be loaded: {error or type(error).__name__}") from error
    if len(parts) != 3 or not len(parts[0]):
        raise UserError(
            f"dataset {config.dataset!r}: no training interaction is left after filtering and splitting; "
            "loosen user_inter_num_interval, item_inter_num_interval or eval_args"
        )
    parts, instances = both_views(config, parts)
    for name, part in zip(("validation", "test"), parts[1:]):
        if not len(part):
            raise UserError(
                f"dataset {config.dataset!r}: the {name} part is empty; change eval_args (now {config['eval_args']})"
            )
    _check_negatives(config, dataset, parts)
    getLogger().info(dataset)
    return Split(dataset, parts, instances)


def _check_negatives(config: Config, dataset: Dataset, parts: Sequence[Dataset]) -> None:
    """Raise a UserError for a user who has every item: RecBole draws no negative item for such a user, and ends there."""
    n_items = dataset.item_num - 1  # without the padding
    pairs = np.unique(np.concatenate([pairs_of(part) for part in parts]))
    users, counts = np.unique(pairs // dataset.item_num, return_counts=True)
    full = users[counts == n_items]
    if not len(full) or not _draws_what_is_new(config):
        return
    user, others = shown(str(dataset.id2token(dataset.uid_field, full[0]))), len(full) - 1
    remedy = f'leave such users out by --user_inter_num_interval="[0,{n_items - 1}]"'
    if config["benchmark_filename"]:  # a split of the user's own is not filtered
        remedy = "take such users out of the files"
    raise UserError(
        f"dataset {config.dataset!r}: user {user}{f' (and {others:,} others)' if others else ''} has all {n_items:,} items, "
        f"so no item is left to draw as a negative; {remedy}"
    )


def _draws_what_is_new(config: Config) -> bool:
    """Whether some model of the run draws negatives outside of what a user has had: a sequential one draws repeats, too."""
    if config.family == "context":
        return bool(config["train_neg_sample_args"]["distribution"] != "none")
    if config.family != "sequential":
        return not config["repeatable"]
    return bool(config[MIXED]) or not all(are_sequential(config))


def is_sequential(config: Config) -> bool:
    """Whether the model of `config`, of a distilled one the student, is asked by sequences."""
    return bool(config["MODEL_TYPE"] == ModelType.SEQUENTIAL)


def split_seed(config: Config) -> int:
    """The seed of the split and of the teachers, so that students of several seeds share both."""
    return int(config["seed"] if config["split_seed"] is None else config["split_seed"])
