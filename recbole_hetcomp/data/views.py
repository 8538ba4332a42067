"""Sequential data and its two views: instances, as sequential models see it, and plain interactions, as general ones do.

RecBole's sequential dataset has one instance for each interaction but a user's first: the items before it, oldest first, and
the item itself. Its training, validation and test parts are lists of instances. What is the target of no instance, each
user's first interaction, is kept beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from logging import getLogger

import recbole.data.dataset
import torch
from recbole.data.dataset import Dataset, KnowledgeBasedDataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.features import FeatureDataset
from recbole_hetcomp.data.repeats import evaluated_once, pairs_of

Parts = tuple[Dataset, Dataset, Dataset]


class WithFirsts(SequentialDataset):
    """RecBole's sequential dataset, which also keeps the interactions that become no instance: each user's first.

    Attributes:
        firsts: all columns of these, by user; of the validation and the test part none
    """

    firsts: Interaction | None = None

    def data_augmentation(self) -> None:
        """As RecBole has it; users with a single interaction, who have no instance, are counted in the log."""
        self._check_field("uid_field", "time_field")
        self.sort(by=[self.uid_field, self.time_field])
        users = self.inter_feat[self.uid_field]
        first = torch.ones(len(users), dtype=torch.bool)
        first[1:] = users[1:] != users[:-1]
        self.firsts = self.inter_feat[first.nonzero().squeeze(1)]
        single = int((users.unique_consecutive(return_counts=True)[1] == 1).sum())
        if single:
            getLogger().warning(
                f"dataset {self.dataset_name!r}: {single:,} users have a single interaction: sequential models do not learn "
                "from it, for nothing precedes it; general ones do"
            )
        super().data_augmentation()

    def counter(self, field: str) -> Counter[int]:
        """How often each id of `field` stands in the interactions, first ones among them, as general models have it."""
        if self.firsts is None or field not in self.firsts.columns:
            counted: Counter[int] = super().counter(field)
            return counted
        return Counter(plain(self).inter_feat[field].numpy())


def plain(part: SequentialDataset) -> Dataset:
    """The part as a general model sees it: its interactions, without sequences, by user and time."""
    view: Dataset = Dataset.__new__(Dataset)
    view.__dict__.update({name: value for name, value in vars(part).items() if name != "firsts"})
    table, suffix, firsts = part.inter_feat, part.config["LIST_SUFFIX"], getattr(part, "firsts", None)
    columns = [name for name in table.columns if name != part.item_list_length_field and not name.endswith(suffix)]
    values = {name: table[name] for name in columns}
    if firsts is not None:
        values = {name: torch.cat([firsts[name], values[name]]) for name in columns}
    view.inter_feat = Interaction(values)[_by_user(values[part.uid_field])]
    return view


def _by_user(users: Tensor) -> Tensor:
    """[N] int64: the places of `users` [N] in the order of their ids, each user's as they were."""
    return torch.sort(users, stable=True).indices


def both_views(config: Config, parts: Sequence[Dataset]) -> tuple[Parts, Parts | None]:
    """The parts as general models see them, and as sequential ones do where the data are sequential; each pair once."""
    if config.family != "sequential":
        general: tuple[Dataset, ...] = evaluated_once(config, parts, pairs_of(parts[0]))
        return (general[0], general[1], general[2]), None
    train = plain(parts[0])
    _, valid, test = evaluated_once(config, parts, pairs_of(train))
    if isinstance(parts[0], WithFirsts):
        modes = config["eval_args"]["mode"]
        valid, test = (_evaluated(part, modes[phase]) for part, phase in ((valid, "valid"), (test, "test")))
    return (train, plain(valid), plain(test)), (parts[0], valid, test)


def _evaluated(part: SequentialDataset, mode: str) -> SequentialDataset:
    """The validation or test part, of which no interaction is a first one; ranked in full, in the order of users.

    So every model's results stand user by user in one order. RecBole has them in the order of time, in which it also draws
    the items of other modes.
    """
    table = part.inter_feat
    copied: SequentialDataset = part.copy(table[_by_user(table[part.uid_field])] if mode == "full" else table)
    copied.firsts = None
    return copied


def dataset_class(config: Config) -> type[Dataset]:
    """RecBole's choice of a dataset class, without its habit of unpickling a dataset that lies in `checkpoint_dir`."""
    by_type = {ModelType.KNOWLEDGE: KnowledgeBasedDataset, ModelType.CONTEXT: FeatureDataset}
    found = WithFirsts if config.family == "sequential" else by_type.get(config["MODEL_TYPE"], Dataset)
    return vars(recbole.data.dataset).get(f"{config['model']}Dataset", found)
