"""Interactions that stand in the data more than once: where a copy is in training, its item is recommended to nobody.

RecBole credits a model for a test item that the user has in training; the lists of teachers and ensembles leave training
items out. So that all are scored alike, an evaluated pair is one that no earlier part has.
"""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger

import numpy as np
import torch
from recbole.data.dataset import Dataset

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import recommends_unseen

KEPT = ("first", "last")


def check_kept(config: Config) -> None:
    """Raise a UserError for a `rm_dup_inter` that is no rule; RecBole drops every copy of a pair for False."""
    if config["rm_dup_inter"] is not None and config["rm_dup_inter"] not in KEPT:
        raise UserError(
            f"rm_dup_inter: {config['rm_dup_inter']!r} is none of {', '.join(KEPT)}; write ~ to keep repeated interactions"
        )


def evaluated_once(config: Config, parts: Sequence[Dataset], trained: np.ndarray) -> tuple[Dataset, ...]:
    """RecBole's three parts; validation and test without pairs of an earlier part, which are counted in a warning.

    Parts without such pairs are returned as they are, and so are all parts where repeats are data: of context-aware
    models, and of sequential ones with `mask_seen: False`.

    Args:
        trained: `pairs_of` the training part, with those that are no instance of it
    """
    each_once = config["rm_dup_inter"] is not None and not config["benchmark_filename"]
    unseen = config["mask_seen"] if config.family == "sequential" else recommends_unseen(config.model_class)
    if each_once or not unseen:
        return tuple(parts)
    earlier, found, n_repeats = trained, [parts[0]], []
    for part in parts[1:]:
        pairs = pairs_of(part)
        new = np.flatnonzero(~np.isin(pairs, earlier))
        found.append(part if len(new) == len(pairs) else part.copy(part.inter_feat[torch.from_numpy(new)]))
        n_repeats.append(len(pairs) - len(new))
        earlier = np.concatenate([earlier, pairs])
    if any(n_repeats):
        remedy = "take them out of the files" if config["benchmark_filename"] else "rm_dup_inter: first leaves copies out"
        counts = " and ".join(f"{n:,} {name}" for n, name in zip(n_repeats, ("validation", "test")))
        getLogger().warning(
            f"dataset {config.dataset!r}: {counts} interactions repeat one of an earlier part, the same user's with the "
            f"same item, and do not count; {remedy}"
        )
    return tuple(found)


def pairs_of(part: Dataset) -> np.ndarray:
    """[N] int64: user and item of each interaction as one number."""
    users, items = (part.inter_feat[field].numpy().astype(np.int64) for field in (part.uid_field, part.iid_field))
    return users * part.item_num + items
